"""One run, from a checked recipe to a finished run folder."""

import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gptlab.config.recipe import Recipe
from gptlab.console.terminal import Terminal
from gptlab.corpus.corpus import Corpus
from gptlab.corpus.load import read_corpus
from gptlab.errors import Ended, Refused, refuse_out_of_memory
from gptlab.model.compile_policy import should_compile_long_run
from gptlab.model.decoder import Decoder
from gptlab.runs import tracker as tracking
from gptlab.runs.checkpoint import (
    CheckpointWriter,
    extract_decoder_weights,
    find_newest_checkpoint,
    keep_checkpoints,
    load_checkpoint,
)
from gptlab.runs.fingerprint import fingerprint_recipe
from gptlab.runs.record import RunFolder
from gptlab.training.build import build_decoder
from gptlab.training.context import RunContext
from gptlab.training.cost.probe import Probe, probe_run
from gptlab.training.cost.run_time import limit_training
from gptlab.training.distributed.follower import follow_first_process
from gptlab.training.ending import explain_ending
from gptlab.training.evaluator import Evaluator
from gptlab.training.final_evaluation import evaluate_final
from gptlab.training.messages import print_introduction, print_results
from gptlab.training.run_callbacks.branch_points import BranchPoints
from gptlab.training.run_callbacks.checkpoints import STATE_KEY, Checkpoints
from gptlab.training.run_callbacks.interim_evaluation import InterimEvaluation
from gptlab.training.run_callbacks.interim_sample import InterimSample
from gptlab.training.run_callbacks.metrics_log import MetricsLog
from gptlab.training.run_callbacks.progress_bar import ProgressBar
from gptlab.training.run_callbacks.stop_on_signal import SIGNALS, StopOnSignal, raise_stopped
from gptlab.training.run_callbacks.time_limit import TimeLimit
from gptlab.training.run_log import RunLog
from gptlab.training.sample_writer import SampleWriter
from gptlab.training.samples import write_final_samples
from gptlab.training.setup import TrainingSetup, build_callbacks, silence_lightning
from gptlab.training.start import (
    announce_start,
    find_run_to_resume,
    find_trunk,
    make_processes,
    open_tracker,
    refuse_other_text,
    refuse_small_disk,
    write_start,
)
from gptlab.training.state import RunState, StepTimer
from gptlab.training.summary import describe_run, measure_times
from gptlab.training.task import Diverged


def run(
    recipe: Recipe,
    corpus: Corpus | None = None,
    began: float | None = None,
    *,
    quiet: bool = False,
    opened: Callable[[Path], None] = lambda _: None,
) -> Path | None:
    """Train, evaluate, sample and record; go on with a run if `resume` says so.

    Returns the run's folder; None where another process leads: the others only train.

    began   monotonic time from which the run's minutes count
    quiet   says everything to log.txt alone
    opened  called with the run's folder before training
    """
    began = time.monotonic() if began is None else began
    silence_lightning()
    mode = tracking.choose_mode(recipe.settings.tracking)
    corpus = corpus or read_corpus(recipe)
    processes = make_processes(recipe)
    if processes.rank:  # every process runs this same command; all but the first one follow
        return follow_first_process(recipe, corpus, processes, lambda context, decoder: Run(context, decoder).setup)
    path = find_run_to_resume(recipe)
    has_weights = path is not None and RunFolder(path).has_checkpoint()  # then pretrained ones need not be read
    decoder = build_decoder(recipe, corpus.tokenizer.vocab, load_start=not has_weights)
    refuse_small_disk(recipe, decoder)
    branch = find_trunk(recipe, corpus) if path is None else None
    folder = RunFolder(path) if path else RunFolder.create(recipe)
    with folder.remove_if_refused(path is None), folder.lock(), refuse_out_of_memory():  # refused, it leaves no folder
        if path is None:
            write_start(recipe, folder, corpus, branch)
        else:
            refuse_other_text(folder, corpus)
        opened(folder.path)
        terminal = Terminal(folder, quiet=quiet)
        tracker = open_tracker(recipe, folder, decoder, mode=mode, terminal=terminal, resumed=path is not None)
        announce_start(branch, processes, folder, tracker=tracker, terminal=terminal)
        context = RunContext(
            recipe=recipe,
            folder=folder,
            corpus=corpus,
            tracker=tracker,
            terminal=terminal,
            processes=processes,
            fresh=path is None and branch is None,
            began=began,
        )
        Run(context, decoder).execute()
    return folder.path


class Run:
    """One run at work: its parts, and its stages from top to bottom."""

    def __init__(self, context: RunContext, decoder: Decoder) -> None:
        self.context = context
        self.facts = context.folder.read_facts()
        if not context.fresh and context.processes.size == 1:
            torch.set_num_threads(self.facts.get("threads", torch.get_num_threads()))  # the last bits depend on them
        self.setup = TrainingSetup(context, decoder, compiled=self.facts.get("compiled"))
        self.state = RunState()
        self.log = RunLog(context, self.state)
        self.evaluator = Evaluator(context.recipe, context.corpus)
        self.writer = SampleWriter(context.recipe, context.corpus, self.setup.device)
        self.stop_on_signal = StopOnSignal(context.processes, context.terminal)
        self.setup.trainer.callbacks += self._make_callbacks()

    def _make_callbacks(self) -> list[Any]:
        """Return the user's callbacks, then the run's own in the order in which they act."""
        context, state, log = self.context, self.state, self.log
        timer, checkpoints = StepTimer(state), CheckpointWriter(context.folder.checkpoints)
        evaluation = InterimEvaluation(
            context, self.setup, self.evaluator, log, writer=checkpoints, state=state, timer=timer
        )
        return [
            *build_callbacks(context.recipe, log.write_row),
            self.stop_on_signal,
            TimeLimit(state, context.processes),
            ProgressBar(context.terminal, context.settings.steps),
            MetricsLog(context, log, state, timer, peak_tokens_per_s=self.setup.peak_tokens_per_s),
            evaluation,
            InterimSample(context, self.setup, evaluation, self.writer, log=log, state=state, timer=timer),
            Checkpoints(context, checkpoints, state, timer),
            BranchPoints(context, checkpoints, state, timer),
        ]

    def execute(self) -> None:
        """Run all stages; whatever happens, the tracker is closed, and the last line names the folder."""
        context, status = self.context, 1
        summary: dict[str, Any] = {"status": "failed"}
        # outside training; while it trains, StopOnSignal has taken the signals and lets the step end
        signals = (number for number in SIGNALS if number != signal.SIGINT)  # which raises KeyboardInterrupt
        handlers = {number: signal.signal(number, raise_stopped) for number in signals}
        try:
            summary, status = self.run_stages(), 0
        except BaseException as error:
            ending = explain_ending(error, context)
            summary, status = {"status": ending.status}, ending.exit_status
            if isinstance(error, Diverged):
                run = describe_run(context, self.setup, self.state, self.facts)
                summary = {**run, **summary, "reason": str(error)}
                context.folder.write_summary(summary)
            if ending.error is error:
                raise
            raise ending.error from error
        finally:
            context.terminal.stop_bar()
            self.stop_on_signal.restore_handlers()
            # children would wait in a collective for a process that is gone
            context.processes.kill_children()
            for number, handler in handlers.items():
                signal.signal(number, handler)
            context.tracker.finish(summary, status)
            if summary["status"] != "refused":
                context.terminal.print_path(context.folder.path)

    def run_stages(self) -> dict[str, Any]:
        """Probe, introduce, train, evaluate, sample, sum up; return the summary."""
        context, setup, terminal = self.context, self.setup, self.context.terminal
        with terminal.show_status("measuring a step"):
            probe = probe_run(context, setup, self.evaluator, self.writer)
        # before the other processes start, which follow what is settled here
        self.settle_compiling(probe)
        print_introduction(context, setup, probe)
        with terminal.show_status("waiting for the other processes"):
            context.processes.start()
        self.limit_time(probe)
        start_s = time.monotonic() - context.began
        self.train()
        with terminal.show_status("evaluating on the validation split"), setup.numerics():
            values, evaluate_s = evaluate_final(context, setup, self.evaluator, self.log, state=self.state)
        with terminal.show_status("writing samples"):
            texts, sample_values = write_final_samples(context, setup, self.evaluator, self.writer, log=self.log)
        summary = {
            **describe_run(context, setup, self.state, self.facts, probe=probe),
            "status": "finished",
            **values,
            **sample_values,
            **measure_times(context, setup, self.state, start_s=start_s, evaluate_s=evaluate_s),
        }
        # the last of all files: a folder without it is an unfinished run
        context.folder.write_summary(summary)
        context.tracker.upload_checkpoint(context.folder.checkpoints)
        keep_checkpoints(context.folder.checkpoints, context.settings.keep)
        print_results(context, self.evaluator, summary, texts)
        return summary

    def settle_compiling(self, probe: Probe) -> None:
        """Compile a run that is long enough to pay for it; what was settled holds when the run is resumed."""
        context, setup, settings = self.context, self.setup, self.context.settings
        # a busy machine is no reason to compile, after which the same seed need not give the same numbers again
        seconds = min(settings.steps * probe.alone_s, (settings.max_minutes or math.inf) * 60)
        if (
            context.fresh
            # a resumed run compiles if it began so: the last bits of a compiled step differ
            and should_compile_long_run(settings.compile, setup.device.type, seconds)
            and not setup.compiled
        ):
            setup.compile()
        context.folder.update_facts(compiled=setup.compiled)

    def limit_time(self, probe: Probe) -> None:
        """Turn max_minutes into the seconds that training may take."""
        minutes, task = self.context.settings.max_minutes, self.setup.task
        if minutes is None:
            return
        task.seconds = limit_training(
            minutes,
            spent_s=time.monotonic() - self.context.began,
            final_s=probe.time.final_s,
            step_s=min(probe.step_s, probe.single_thread_s),
        )

    def train(self) -> None:
        """Train to the end, or to a signal; from the newest checkpoint that can be read if the run is resumed."""
        context, setup, state = self.context, self.setup, self.state
        path, skipped = find_newest_checkpoint(context.folder.checkpoints)
        for line in skipped:
            context.terminal.say(f"  [yellow]{line}[/]")
        checkpoint = load_checkpoint(path, mapped=True) if path else None
        if checkpoint and STATE_KEY not in checkpoint["callbacks"]:
            git = self.facts.get("git") or "unknown"
            raise Refused(
                f"resume={context.folder.path}: its checkpoints are of another gptlab; resume with commit {git}"
            )
        # killed before its first checkpoint, a run starts over, and none of its rows count
        saved = checkpoint["callbacks"][STATE_KEY] if checkpoint else RunState().to_dict()
        if not context.fresh:
            self.announce_resume(checkpoint, saved)
        if checkpoint and saved["finished"]:  # killed after its last step
            setup.decoder.load_state_dict(extract_decoder_weights(checkpoint))
            state.restore(saved)
            # tells the other processes that there is nothing to train
            context.processes.broadcast(None)
            return
        plan = {"path": path, "seconds": setup.task.seconds, "compiled": setup.compiled}
        setup.fit(context.processes.broadcast(plan))
        # a signal in the last step comes too late: the run is at its end
        if self.stop_on_signal.signal and not state.finished:
            name = signal.Signals(self.stop_on_signal.signal).name
            line = f"stopped by {name} after step {state.step:,}; {context.resume_command()}"
            raise Ended(line, 128 + self.stop_on_signal.signal)
        if setup.is_sharded:  # the others are gone; what was just saved is whole
            setup.decoder = build_decoder(context.recipe, context.corpus.tokenizer.vocab)
            last = load_checkpoint(context.folder.checkpoints / "last.ckpt", mapped=True)
            setup.decoder.load_state_dict(extract_decoder_weights(last))
        setup.decoder.to(setup.device)

    def announce_resume(self, checkpoint: dict[str, Any] | None, saved: dict[str, Any]) -> None:
        """Drop the rows that come after the checkpoint, and say from which step the run goes on."""
        say = self.context.terminal.say
        # steps after the checkpoint are trained again, and would have their rows twice
        self.context.folder.rewind(saved["rows"], saved["samples"])
        say(f"  going on from step {checkpoint['global_step']:,}" if checkpoint else "  no checkpoint: from the start")
        if self.facts["code"] != fingerprint_recipe(self.context.recipe):
            say("  [yellow]the code has changed since this run began: it goes on, but not as it would have[/]")
