"""Console output of a run: what it is, before it starts; its results, after."""

import time
from collections.abc import Iterable
from typing import Any

import torch
from rich.markup import escape

from gptlab.config.factory import factory
from gptlab.config.idle_knobs import describe_idle_knobs
from gptlab.config.recipe import PARTS
from gptlab.console.units import draw_sparkline, format_duration
from gptlab.model.compile_policy import find_missing_dependency
from gptlab.runs.record import read_rows
from gptlab.training.branching.trunk import build_schedule, list_branch_points
from gptlab.training.context import RunContext
from gptlab.training.cost.probe import Probe
from gptlab.training.cost.threads import DEFAULT_THREADS
from gptlab.training.evaluator import Evaluator
from gptlab.training.setup import TrainingSetup


def print_introduction(context: RunContext, setup: TrainingSetup, probe: Probe) -> None:
    """Print what the run is, and how long it will take here."""
    settings, model, choices = context.settings, context.settings.model, context.recipe.choices
    say, corpus = context.terminal.print_fact, context.corpus
    schedule = build_schedule(context.recipe)
    tokens = settings.steps * settings.batch_size * model.context
    costs = setup.costs
    active = f" ({costs.params_active:,} active)" if costs.params_active != costs.params else ""
    loops = f", {model.loops} times," if model.loops > 1 else ""
    parts = ", ".join(f"{slot} {choices[slot]}" for slot in (*PARTS, "init") if slot in choices)
    context.terminal.say(f"[bold]{context.folder.path.name}[/]")
    say(
        "decoder",
        f"{model.layers} layers{loops} x {model.width} wide x {model.heads} heads, context {model.context}: "
        f"{costs.params:,} parameters{active}, {costs.flops_per_token / 1e6:.2f} MFLOPs/token to train",
        f"[dim]{parts}[/]",
    )
    vocabulary = f"vocabulary {corpus.tokenizer.vocab} ({choices.get('tokenizer')})"
    say("data", f"{choices.get('data')}: {corpus.describe_size()}, {vocabulary}", *describe_doubts(context))
    say(
        "recipe",
        f"{settings.steps:,} steps x {settings.batch_size} x {model.context} = {abbreviate(tokens)} tokens, "
        f"{corpus.describe_passes(tokens)}; {choices.get('optimizer')} at "
        f"{context.recipe.config['optimizer']['lr']:g}, {choices.get('schedule')} (mean {schedule.mean():.2f} of it)",
    )
    for line in describe_idle_knobs(context.recipe.config):
        say("", f"[yellow]{escape(line)}[/]")
    print_device(context, setup, probe.kernels)
    print_time(context, probe)


def print_device(context: RunContext, setup: TrainingSetup, kernels: str) -> None:
    """Print what the run computes with, and what is not as one might expect of it."""
    settings, say = context.settings, context.terminal.print_fact
    mode = "disabled" if context.tracker.run is None else context.tracker.mode
    processes = f"{context.processes.size} processes, each on " if context.processes.size > 1 else ""
    numerics = f"{setup.precision}, torch {torch.__version__}, attention by {kernels}"
    say("device", f"{processes}{setup.device_name}, {numerics}, W&B {mode}")
    if line := describe_fewer_threads(context):
        say("", f"[yellow]{line}[/]")
    if setup.device.type == "cuda" and setup.peak_tokens_per_s is None:
        say("", f"[yellow]no peak known for {setup.device_name} in {setup.precision}: no MFU[/]")
    if settings.compile == "auto" and setup.device.type == "cuda" and not setup.compiled:
        say("", f"[yellow]not compiled: {find_missing_dependency('cuda')} is not here[/]")
    if setup.compiled:
        say("", "[yellow]compiled: the same seed need not give the same numbers again (seen on CPU, torch 2.13)[/]")


def print_time(context: RunContext, probe: Probe) -> None:
    """Print how long the run will take here."""
    settings, say = context.settings, context.terminal.print_fact
    bound = f", ended after {settings.max_minutes:g} min" if settings.max_minutes else ""
    whole = format_duration(probe.time.total_s)
    spent = time.monotonic() - context.began + probe.time.final_s
    # a step with its share of evaluations, in what start and end leave of five minutes
    fit = max(0, int((300 - spent) / (probe.step_s + probe.time.interim_s / settings.steps)))
    say("time", f"{probe.step_s * 1000:.0f} ms a step: about {whole} more{bound}; 5 minutes would fit {fit:,} steps")
    if probe.single_thread_s < 0.8 * probe.step_s:  # threads that wait for a core which others use spin their time away
        alone = f"{probe.single_thread_s * 1000:.0f} ms"
        say("", f"[yellow]other work keeps the threads waiting: a step would take {alone} with trainer.threads=1[/]")


def describe_doubts(context: RunContext) -> list[str]:
    """Return the line on data that may not be meant as they are read, if there is one."""
    line = factory(context.recipe.config["data"], "data")().describe_doubts()
    return [f"[yellow]{escape(line)}[/]"] if line else []


def describe_fewer_threads(context: RunContext) -> str:
    """Return the line for a run that leaves cores to other work, or an empty one."""
    threads = torch.get_num_threads()
    if context.recipe.config["trainer"]["threads"] or context.processes.size > 1 or threads >= DEFAULT_THREADS:
        return ""
    again = f"the last bits of numbers depend on it: trainer.threads={threads} has them again"
    return f"{threads} of {DEFAULT_THREADS} threads, since other work keeps the rest of the cores busy; {again}"


def print_results(
    context: RunContext, evaluator: Evaluator, summary: dict[str, Any], texts: list[dict[str, Any]]
) -> None:
    """Print the losses, the times, a sample."""
    # from the file, so that a resumed run shows its whole curve
    losses = [row["train/loss"] for row in read_rows(context.folder.path / "metrics.jsonl") if "train/loss" in row]
    say = context.terminal
    say.say()
    if losses:
        say.print_fact("loss", f"{losses[0]:.2f} {draw_sparkline(losses)} {losses[-1]:.2f}")

    def join_metrics(names: Iterable[str]) -> str:
        return "   ".join(f"{name.replace('_', ' ')} {summary[f'val/{name}']:.4g}" for name in names)

    answers = ["answer_accuracy"] if evaluator.answer_metrics else []
    metrics = join_metrics([*evaluator.token_metrics, *answers])
    say.print_fact("val", f"[bold]{summary['val/loss']:.4f} nats/token[/]   {metrics}")
    if evaluator.task_metrics:
        say.print_fact("", join_metrics(evaluator.task_metrics))
    for name in evaluator.text_metrics if texts else ():
        score, floor, ceiling = (summary[f"val/{name}{suffix}"] for suffix in ("", "_floor", "_ceiling"))
        say.print_fact("", f"{name.replace('_', ' ')} {score:.2f} (floor {floor:.2f}, ceiling {ceiling:.2f})")
    parts = {"start": "start", "training": "train", "evaluation": "evaluate", "samples": "samples"}
    times = ", ".join(f"{name} {format_duration(summary[f'time/{part}_s'])}" for name, part in parts.items())
    say.print_fact("time", f"{format_duration(summary['time/total_s'])} in all: {times}")
    used = f" ({summary['throughput/mfu']:.1%} MFU)" if "throughput/mfu" in summary else ""
    say.print_fact(
        "speed",
        f"{summary['time/step_ms_median'] or 0:.1f} ms a step, {summary['throughput/tokens_per_s'] or 0:,.0f} tokens/s "
        f"learnt{used}; writing {summary['time/generate_ms_per_token']:.2f} ms a token; peak memory "
        f"{summary['memory/peak_bytes'] / 1e9:.2f} GB",
    )
    for step, steps in list_branch_points(context.recipe).items():
        words = f"steps={steps} schedule.warmup_steps={build_schedule(context.recipe).trunk_warmup}"
        say.print_fact(
            "branch", f"the same command with {words} trunk={context.folder.path} goes on from step {step:,}"
        )
    if texts:
        say.print_fact("sample", f"1 of {len(texts)}, all in samples.jsonl")
        say.print_text(texts[0]["text"])


def abbreviate(number: int) -> str:
    """Return a large number with its unit: 76.8 k, 1.5 M."""
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.1f} k"
