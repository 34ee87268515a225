"""The LightningModule: the decoder, its loss, its optimizer and its schedule. Knows no variant.

Before each micro-batch torch's random state is set by (seed, step, micro-batch, rank), so that dropout is a function of
the step and a resumed run needs no saved random state.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from gptlab.corpus.batch import Batch
from gptlab.model.decoder import Decoder
from gptlab.model.rng import derive_seed
from gptlab.model.shape import IGNORED
from gptlab.training.optimizer import scale_groups
from gptlab.training.schedule import Schedule


class Diverged(Exception):
    """Training diverged: the step, and the first tensor or value that is not finite or too large."""


class Task(LightningModule):
    """The decoder under training. `seconds` bounds the schedule by time beside the steps."""

    def __init__(
        self,
        decoder: Decoder,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Schedule,
        *,
        seed: int,
        steps: int,
        accumulate: int = 1,
        clip: float | None = None,
        shuffle_targets: bool = False,
    ) -> None:
        super().__init__()
        self.decoder, self.schedule, self.optimizer = decoder, schedule, optimizer
        self.seed, self.steps, self.accumulate, self.clip = seed, steps, accumulate, clip
        self.shuffle_targets = shuffle_targets
        self.seconds: float | None = None
        # seconds of training: `spent` before a resume, `time` in all, as the processes last agreed (TimeLimit)
        self.spent = self.time = 0.0
        # monotonic, and so never saved: it means nothing in another process
        self.started = math.nan
        self.after_step_hooks: list[Callable[..., object]] = []
        self.weights: list[Tensor] = []
        self.averagers: list[Any] = []
        # since the last row of the log, on the device: reading them each step would wait for a GPU
        self.sums: dict[str, Tensor] = {}
        self.first_loss = math.nan

    def configure_model(self) -> None:
        """Under trainer=fsdp, share the weights out among the processes: those of each block, then the others."""
        if self.device_mesh is not None:
            from torch.distributed.fsdp import fully_shard

            # inner parts first: a block is then gathered by itself, for its turn in the pass
            for part in (*self.decoder.layers, self.decoder):
                fully_shard(part, mesh=self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = self.optimizer(self.decoder.trainable_parameters())
        scale_groups(optimizer, self.decoder.trainable_parameters(), self.decoder.scaling)
        self.averagers = [optimizer] if hasattr(optimizer, "average_weights") else []
        for group in optimizer.param_groups:
            # each group keeps its own rate (Muon has two): the schedule is one factor of all
            group["peak"] = group["lr"]
        return optimizer

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the loss of a micro-batch in nats per target, auxiliary losses added."""
        self.seed_draws(index % self.accumulate)
        targets = shuffle_within_batch(batch.targets) if self.shuffle_targets else batch.targets
        output = self.decoder(batch.inputs, targets, documents=batch.documents)
        # micro-batches of a synthetic task may differ in how much they ask
        loss = output.loss if batch.weight == 1 else output.loss * batch.weight
        self._add("train/loss", loss, self.accumulate)
        for name, value in (output.losses | output.facts).items():
            self._add(f"train/{name}", value, self.accumulate)
        self._refuse_bad_loss(output.loss, batch)
        # Lightning divides by `accumulate` before the backward pass, so this is not a share
        return loss + sum(output.losses.values())

    def seed_draws(self, micro: int) -> None:
        """Set torch's random state for a micro-batch of this step, counted from 0."""
        state = derive_seed(self.seed, self.global_step, micro, self.global_rank)
        torch.default_generator.manual_seed(state)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(state)

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Measure the gradient's norm, and clip it if asked."""
        # with an infinite limit it measures and changes nothing
        norm: Any = torch.nn.utils.clip_grad_norm_(self.weights, self.clip or math.inf, foreach=True)
        # under FSDP it is a DTensor, whose whole value all processes have together
        norm = norm if self.device_mesh is None else norm.full_tensor()
        self._add("train/gradient_norm", norm)
        # on a GPU to look would wait for the step; the next log line finds it
        if not norm.is_cuda and not math.isfinite(norm):
            bad = find_non_finite((f"gradient of {name}", p.grad) for name, p in self.decoder.named_parameters())
            raise Diverged(f"step {self.global_step + 1}: the {bad or 'norm of the gradient'} is not finite")

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, closure: Any = None) -> None:
        """Set the learning rate of this step, then step."""
        factor = self.schedule(self.progress())
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        self.apply_optimizer(epoch, batch_idx, optimizer, closure)
        for hook in self.after_step_hooks:
            hook(self.global_step)

    def apply_optimizer(self, epoch: int, batch_idx: int, optimizer: Any, closure: Any) -> None:
        """Run the closure, forward and backward of the last micro-batch, and then step."""
        super().optimizer_step(epoch, batch_idx, optimizer, closure)

    @contextmanager
    def average_weights(self) -> Iterator[None]:
        """Hold the weights that are to be evaluated, where an optimizer or a callback averages those that train.

        Afterwards the weights are what they were, bit for bit.
        """
        kept = [(p, p.detach().clone()) for p in self.weights] if self.averagers else []
        self.keep_average_weights()
        yield
        with torch.no_grad():
            for p, value in kept:
                p.copy_(value)

    @torch.no_grad()
    def keep_average_weights(self) -> None:
        """Replace the weights by their averages, at the end of training."""
        for averager in self.averagers:
            for p, average in averager.average_weights():
                p.copy_(average)

    def progress(self) -> float:
        """Return the progress of the schedule, in (0, 1): by steps, or by time where that is further."""
        # steps + 1, so that a schedule from 0 to 0 wastes neither the first step nor the last
        done = (self.global_step + 1) / (self.steps + 1)
        return done if self.seconds is None else min(1.0, max(done, self.time / self.seconds))

    def measure_elapsed_s(self) -> float:
        """Return the seconds of training so far, including those before a resume.

        The schedule follows `time`, on which all processes agreed at the end of the last step.
        """
        return self.spent + time.monotonic() - self.started

    def on_train_start(self) -> None:
        self.started, self.time = time.monotonic(), self.spent
        # Found once: to walk through all parts twice takes 0.26 ms a step (model=micro).
        hooks = (getattr(part, "after_step", None) for part in self.decoder.modules())
        self.after_step_hooks = [hook for hook in hooks if callable(hook)]
        self.weights = list(self.decoder.parameters())
        for part in self.decoder.modules():
            if callable(start := getattr(part, "start_training", None)):
                start()

    def share_sums(self, mean: Callable[[dict[str, float]], dict[str, float]]) -> None:
        """Make the running sums the same on all processes, so that any of them may save them."""
        self.sums = stack_values(mean(list_values(self.sums)))

    def refuse_bad_sums(self) -> None:
        """Raise Diverged if a loss or a gradient since the last log line was not finite."""
        for name in ("train/loss", "train/gradient_norm"):
            if name in self.sums and not math.isfinite(self.sums[name]):
                raise Diverged(f"step {self.global_step}: {name} is not finite since the last log line")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # a checkpoint may fall between two rows of the log, whose means must not change
        checkpoint["task"] = {
            "sums": list_values(self.sums),
            "spent": self.measure_elapsed_s(),
            "seconds": self.seconds,
            "first_loss": self.first_loss,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint["task"]
        self.sums = stack_values(saved["sums"])
        self.spent, self.seconds, self.first_loss = saved["spent"], saved["seconds"], saved["first_loss"]

    def means(self, steps: int) -> dict[str, float]:
        """Return the means over the last `steps` steps of what was added, and clear the sums.

        Those of a vector, as the load of each expert, are `name[0]`, `name[1]`, ...
        """
        values = {name: value / steps for name, value in list_values(self.sums).items()}
        self.sums = {}
        return values

    def _add(self, name: str, value: Tensor, shares: int = 1) -> None:
        # float64, as a checkpoint has it: after a resume the sums are the same bits
        value = value.detach().double() / shares
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def _refuse_bad_loss(self, loss: Tensor, batch: Batch) -> None:
        """Refuse a bad loss at once on a CPU.

        On GPUs, where looking would wait for the step, the next log line finds it; so it does where other processes
        would wait for one that stops.
        """
        if not loss.is_cuda and self.trainer.world_size == 1:
            self.refuse_bad_value(float(loss.detach()), self.global_step + 1, batch)

    def refuse_bad_value(self, loss: float, step: int, batch: Batch | None = None) -> None:
        """Raise Diverged for a loss that is not finite, or far above where it began."""
        if math.isnan(self.first_loss):
            self.first_loss = loss
        if not math.isfinite(loss):
            raise Diverged(f"step {step}: {self._find_culprit(batch)}")
        # ln V, the loss of knowing nothing, is the measure for what begins below it, as a pretrained decoder does
        if loss > 4 * max(self.first_loss, math.log(self.decoder.shape.vocab)):
            raise Diverged(f"step {step}: the loss rose to {loss:.3g} from {self.first_loss:.3g} at birth")

    def _find_culprit(self, batch: Batch | None) -> str:
        """Return a sentence that names the first weight, or the first layer's output, that is not finite."""
        if bad := find_non_finite(self.decoder.named_parameters()):
            return f"the weight {bad} is not finite"
        # one more pass, with a look at every part's output: only a run that is over pays for it
        outputs: list[tuple[str, Any]] = []
        hooks = []
        for name, module in self.decoder.named_modules():
            if name:  # the decoder itself has none
                # name=name: else each hook would have the last one's
                hook = module.register_forward_hook(lambda _, __, out, name=name: outputs.append((name, out)))
                hooks.append(hook)
        if batch is not None:
            with torch.no_grad():
                self.decoder(batch.inputs, batch.targets, documents=batch.documents)
        for hook in hooks:
            hook.remove()
        bad = find_non_finite((name, out) for name, out in outputs if isinstance(out, Tensor))
        return f"the output of {bad} is not finite" if bad else "the loss is not finite"


def list_values(sums: dict[str, Tensor]) -> dict[str, float]:
    """Return numbers as they are, and those of vectors as `name[0]`, `name[1]`, ..., which processes can average."""
    values: dict[str, float] = {}
    for name, value in sums.items():
        if value.ndim:
            values |= {f"{name}[{number}]": part for number, part in enumerate(value.tolist())}
        else:
            values[name] = float(value)
    return values


def stack_values(values: dict[str, float]) -> dict[str, Tensor]:
    """Return the inverse of `list_values`: values by name, vectors joined, as float64."""
    gathered: dict[str, Any] = {}
    for name, value in values.items():
        vector, bracket, _ = name.partition("[")
        if bracket:
            gathered.setdefault(vector, []).append(value)
        else:
            gathered[name] = value
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in gathered.items()}


def shuffle_within_batch(targets: Tensor) -> Tensor:
    """Return targets (B, T) in a random order, those that are IGNORED in their places."""
    shuffled, is_scored = targets.clone(), targets != IGNORED
    scored = targets[is_scored]
    shuffled[is_scored] = scored[torch.randperm(len(scored), device=targets.device)]
    return shuffled


def find_non_finite(named: Any) -> str | None:
    """Return the name of the first tensor that holds a NaN or an infinity."""
    return next((name for name, x in named if x is not None and not torch.isfinite(x).all()), None)
