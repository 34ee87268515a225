"""The training setup of a run: decoder on its device, Lightning task, data module and trainer, and how they start."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from gptlab.config.factory import factory
from gptlab.config.recipe import Recipe
from gptlab.corpus.datamodule import DataModule
from gptlab.errors import Ended
from gptlab.model.compile_policy import should_compile_at_start
from gptlab.model.costs import count_costs
from gptlab.model.decoder import Decoder
from gptlab.training.branching.trunk import build_schedule
from gptlab.training.callback import Callback, Row
from gptlab.training.context import RunContext
from gptlab.training.cost.memory import reset_peak_memory
from gptlab.training.cost.peak_flops import find_peak_flops
from gptlab.training.cuda_graph.graphed_task import GraphedTask
from gptlab.training.task import Task


def silence_lightning() -> None:
    """Turn off Lightning's advertisements, and a deprecation inside it that its users cannot mend (2.6.6)."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")


class TrainingSetup:
    """What Lightning trains, and with what.

    precision  of the trainer: 32-true, tf32 or bf16-mixed
    compiled   whether the decoder is; `compiled` given says how a resumed run was begun
    """

    def __init__(self, context: RunContext, decoder: Decoder, compiled: bool | None = None) -> None:
        self.context, self.decoder = context, decoder
        settings, config = context.settings, context.recipe.config
        # made before the decoder, since it knows the rank and the device
        self.trainer: Any = context.processes.trainer
        self.device: torch.device = self.trainer.strategy.root_device
        self.data_module = DataModule(
            context.corpus,
            seed=settings.seed,
            batch_size=settings.batch_size,
            context=settings.model.context,
            accumulate=settings.accumulate,
            pinned=self.device.type == "cuda",
        )
        task_class = GraphedTask if config["trainer"].get("cuda_graph") else Task
        self.task = task_class(
            decoder,
            # the factory: Lightning asks for the optimizer once the weights are where they will be trained
            factory(config["optimizer"], "optimizer"),
            build_schedule(context.recipe),
            seed=settings.seed,
            steps=settings.steps,
            accumulate=settings.accumulate,
            clip=settings.clip,
            shuffle_targets=settings.shuffle_targets,
        )
        # as resolved on this machine: auto has become one of the three
        self.precision: str = factory(config["trainer"], "trainer")().precision
        # before the weights move there, so that they are counted
        reset_peak_memory(self.device)
        decoder.to(self.device)
        # counted while the decoder is whole: under fsdp a process soon holds a share of it
        self.costs = count_costs(decoder)
        self.compiled = False
        if compiled is None:
            compiled = should_compile_at_start(settings.compile, self.device.type)
        if compiled:
            self.compile()

    @property
    def device_name(self) -> str:
        """The GPU's name, or the CPU with its threads."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name()
        threads = torch.get_num_threads()
        return f"cpu, {threads} thread{'s' if threads > 1 else ''}"

    @property
    def peak_tokens_per_s(self) -> float | None:
        """Tokens a second at the peak of all GPUs together, if it is known."""
        peak = find_peak_flops(self.device_name, self.precision) if self.device.type == "cuda" else None
        return peak and peak * self.context.processes.size / self.costs.flops_per_token

    def numerics(self) -> AbstractContextManager[None]:
        """Open the precision of training, which Lightning opens for its own steps."""
        return self.trainer.precision_plugin.forward_context()

    @property
    def is_sharded(self) -> bool:
        """Whether the decoder's weights are in shares: trainer=fsdp, once training has begun."""
        return hasattr(self.decoder, "unshard")

    @contextmanager
    def gather_weights(self) -> Iterator[None]:
        """Hold the weights outside the blocks in one piece, which a forward pass outside Lightning's steps needs."""
        decoder: Any = self.decoder
        if self.is_sharded:
            decoder.unshard()
        yield
        if self.is_sharded:
            decoder.reshard()

    def compile(self) -> None:
        """Compile the decoder in place, so that its state dict keeps its keys."""
        self.compiled = True
        self.decoder.compile()

    def fit(self, plan: dict[str, Any]) -> None:
        """Train to the end, or to a signal, as the first process planned.

        The plan says from which checkpoint (`path`), in how many `seconds`, and whether `compiled`.
        """
        processes = self.context.processes
        self.task.seconds = plan["seconds"]
        if plan["compiled"] and not self.compiled:
            self.compile()
        try:
            # weights_only: a checkpoint may come from a stranger, and a pickle runs code
            self.trainer.fit(self.task, self.data_module, ckpt_path=plan["path"], weights_only=True)
        except SystemExit as ended:  # what Lightning makes of a KeyboardInterrupt
            raise KeyboardInterrupt from ended
        except RuntimeError as error:
            if processes.size == 1 or "peer" not in str(error):  # gloo's words
                raise
            raise Ended(f"another process of this run has died; {self.context.resume_command()}") from error
        processes.destroy()


def build_callbacks(recipe: Recipe, write_row: Callable[[int, Row], None]) -> list[Callback]:
    """Return the callbacks that a recipe lists, in order, connected to the run's rows."""
    callbacks = []
    for name, node in recipe.config["callback"].items():
        callback: Callback = factory(node, f"callback.{name}")()
        callback.name, callback.write_row = name, write_row
        callbacks.append(callback)
    return callbacks
