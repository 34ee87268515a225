"""A training step through our Trainer against a plain PyTorch loop over the same decoder, and MFU where there is a GPU.

    python benchmarks/overhead.py                                      # model=micro
    python benchmarks/overhead.py experiment=gpt2 model=gpt2 tokenizer=gpt2 data.plays=all trainer=gpu --rounds 20

Any overrides of train.py. The two take turns, ten steps each, in one process: first Lightning with logging,
seeding, checks and all that a run does between its evaluations, then what a researcher would write in an afternoon.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning import Callback
from rich.console import Console

from gptlab import compose as wiring
from gptlab.config.factory import factory
from gptlab.console.terminal import Terminal
from gptlab.corpus.load import read_corpus
from gptlab.runs import tracker as tracking
from gptlab.runs.record import RunFolder
from gptlab.training.context import RunContext
from gptlab.training.distributed.process_group import ProcessGroup
from gptlab.training.run import Run
from gptlab.training.setup import TrainingSetup, silence_lightning
from gptlab.training.start import write_start

BLOCK = 10
"""Steps of a turn."""
QUIET = ("tracking=disabled", "evaluation.every=1000000", "save_every=1000000", "sample.count=0", "seed=1")


class Turns(Callback):
    """Time each block of the Trainer's steps, then a block of plain ones. The first two blocks of each are to warm."""

    def __init__(self, plain: Callable[[int], None], device: torch.device) -> None:
        self.plain, self.device = plain, device
        self.ours: list[float] = []
        self.others: list[float] = []

    def on_train_start(self, *_: object) -> None:
        self.mark, self.step = self.now(), 0

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def on_train_batch_end(self, trainer, task, *_: object) -> None:
        if trainer.global_step == self.step or trainer.global_step % BLOCK:
            return
        self.step = trainer.global_step
        middle = self.now()
        for step in range(self.step - BLOCK, self.step):
            self.plain(step)
        end = self.now()
        self.ours.append((middle - self.mark) / BLOCK)
        self.others.append((end - middle) / BLOCK)
        self.mark = end


def make_plain_loop(recipe, corpus, device: torch.device, compiled: bool) -> Callable[[int], None]:
    """Return a plain training step: the same decoder, optimizer and precision, no framework."""
    settings = recipe.settings
    decoder = wiring.build_decoder(recipe, corpus.tokenizer.vocab).to(device).train()
    if compiled:
        decoder.compile()
    optimizer = factory(recipe.config["optimizer"], "optimizer")(decoder.named_parameters())
    schedule = factory(recipe.config["schedule"], "schedule")()
    peaks = [group["lr"] for group in optimizer.param_groups]
    half = factory(recipe.config["trainer"], "trainer")().precision == "bf16-mixed"

    def step(number: int) -> None:
        batch = torch.from_numpy(corpus.batch(0, number, settings.batch_size, settings.model.context))
        for micro in batch.to(device).chunk(settings.accumulate):
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                output = decoder(micro[:, :-1], micro[:, 1:])
            ((output.loss + sum(output.losses.values())) / settings.accumulate).backward()
        if settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), settings.clip)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * schedule(number / settings.steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def main() -> None:
    """Train through our Trainer and by a plain loop in turn, and print both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("overrides", nargs="*", help="of train.py")
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    overrides, rounds = given.overrides, given.rounds
    silence_lightning()
    with tempfile.TemporaryDirectory() as folder, wiring.errors_in_one_line(overrides):
        recipe = wiring.compose([*QUIET, *overrides, f"outputs={folder}", f"steps={rounds * BLOCK}"])
        if wrong := wiring.check_recipe(recipe):
            sys.exit(f"error: {wrong[0]}")
        corpus = read_corpus(recipe)
        make = factory(recipe.config["trainer"], "trainer")()
        trainer = make(max_steps=recipe.settings.steps, accumulate_grad_batches=recipe.settings.accumulate)
        run_folder = RunFolder.create(recipe)
        write_start(recipe, run_folder, corpus)
        decoder = wiring.build_decoder(recipe, corpus.tokenizer.vocab)
        context = RunContext(
            recipe=recipe,
            folder=run_folder,
            corpus=corpus,
            tracker=tracking.Tracker("disabled", Path(folder), recipe.settings.tracking, {}),
            terminal=Terminal(run_folder),
            processes=ProcessGroup(trainer),
            fresh=True,
        )
        setup = Run(context, decoder).setup
        turns = Turns(make_plain_loop(recipe, corpus, setup.device, setup.compiled), setup.device)
        setup.trainer.callbacks.append(turns)
        setup.fit({"path": None, "seconds": None, "compiled": setup.compiled})
    print_report(setup, turns)


def print_report(setup: TrainingSetup, turns: Turns) -> None:
    """Print both medians, their ratio, and MFU where the device's peak is known."""
    ours, plain = (statistics.median(times[2:]) for times in (turns.ours, turns.others))
    settings = setup.context.settings
    tokens = settings.batch_size * settings.model.context
    console = Console(highlight=False)
    console.print(f"{setup.device_name}, torch {torch.__version__}, {setup.costs.params:,} parameters")
    for name, seconds in (("through our Trainer", ours), ("plain loop", plain)):
        use = f", MFU {tokens / seconds / setup.peak_tokens_per_s:.1%}" if setup.peak_tokens_per_s else ""
        console.print(f"{name:20} {seconds * 1000:8.2f} ms a step, {tokens / seconds:10,.0f} tokens/s{use}")
    console.print(f"{'ratio':20} {ours / plain:8.3f}")


if __name__ == "__main__":
    main()
