"""Checkpoints of a run: last, previous and best. Each is written whole or not at all, and read weights-only.

A thread writes them (CheckpointWriter), from copies of all tensors, while training goes on.

state_dict                          the weights, decoder.* by name
optimizer_states, lr_schedulers     of each, as torch has them
callbacks                           run: RunState (training/state.py); and what each callback returns from state_dict
task                                sums since the last row of the log, seconds so far (training/task.py)
global_step, loops                  Lightning's counts

`best` has neither optimizer, schedule nor callbacks. No generator is saved: batches and dropout are functions of seed
and step.
"""

import copy
import errno
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:  # reading takes no lightning, so that `python -m gptlab sample` starts two seconds sooner
    from lightning import Trainer


class CheckpointWriter:
    """Writes the checkpoints of a run in a thread of its own, in the order in which they are saved.

    Of each name one is under way at most, so that copies never pile up: whoever saves sooner waits.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.thread = ThreadPoolExecutor(1, "checkpoints")
        self.pending: dict[str, Future[None]] = {}

    def save(self, trainer: "Trainer", name: str, weights_only: bool = False) -> None:
        """Copy the state of training now, and have it written as <name>.ckpt. All ranks call it, the first one writes.

        Raises the OSError of an earlier write.
        """
        content = capture_checkpoint(trainer, self.folder / f".{name}.part", weights_only)
        if content is None:
            return
        for earlier, written in list(self.pending.items()):
            if earlier == name or written.done():
                # taken off first: an error is raised once
                self.pending.pop(earlier).result()
        self.pending[name] = self.thread.submit(write_checkpoint, copy_to_cpu(content, {}), self.folder, name)

    def wait(self) -> None:
        """Wait until all is written. Raises the OSError of a write that failed."""
        while self.pending:
            self.pending.pop(next(iter(self.pending))).result()

    def wait_after_error(self) -> None:
        """Wait until all is written or has failed: training has ended by another error, which is the one to tell."""
        while self.pending:
            with suppress(OSError, RuntimeError):
                self.wait()


def capture_checkpoint(trainer: "Trainer", path: Path, weights_only: bool) -> dict[str, Any] | None:
    """Return Lightning's checkpoint for `path`, whose tensors training goes on to change; None on other ranks."""
    captured: list[dict[str, Any]] = []
    with _intercept_writes(trainer, captured):
        # a collective: under fsdp it gathers whole tensors
        trainer.save_checkpoint(path, weights_only=weights_only)
    return captured[0] if captured else None


@contextmanager
def _intercept_writes(trainer: "Trainer", captured: list[dict[str, Any]]) -> Iterator[None]:
    """Append to `captured` what Lightning's strategy hands over to be written, in place of writing it."""
    from lightning.fabric.plugins import TorchCheckpointIO

    class Capture(TorchCheckpointIO):
        def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
            captured.append(checkpoint)

    plugin = trainer.strategy.checkpoint_io
    trainer.strategy.checkpoint_io = Capture()
    try:
        yield
    finally:
        trainer.strategy.checkpoint_io = plugin


def copy_to_cpu(value: Any, copies: dict[tuple, torch.Tensor]) -> Any:
    """Return a copy of nested dicts and lists that shares no tensor with them; `copies` holds those made so far.

    Tensors that are one in memory, as a tied head and the embedding, stay one in the file.
    """
    if isinstance(value, torch.Tensor):
        key = (value.untyped_storage().data_ptr(), value.storage_offset(), value.shape, value.stride(), value.dtype)
        if key not in copies or not value.numel():
            copies[key] = value.detach().to("cpu", copy=True)
        return copies[key]
    if isinstance(value, dict):
        # copied as it is first: a state dict carries its versions as an attribute
        copied = copy.copy(value)
        for name, item in value.items():
            copied[name] = copy_to_cpu(item, copies)
        return copied
    if type(value) in (list, tuple):
        return type(value)(copy_to_cpu(item, copies) for item in value)
    return copy.deepcopy(value)


def write_checkpoint(content: dict[str, Any], folder: Path, name: str) -> None:
    """Write <name>.ckpt; a `last` that stood there becomes `previous`. Killed at any moment, one of both is whole."""
    part, path = folder / f".{name}.part", folder / f"{name}.ckpt"
    # of a run that was killed before its first, the empty folder may be lost on the way to another disk
    folder.mkdir(exist_ok=True)
    try:
        torch.save(content, part)
        # to the disk before the rename: after a power cut the name must not lead to an empty file
        with part.open("rb") as file:
            os.fsync(file.fileno())
        # between these two renames there is no `last`, but `previous` is whole
        if name == "last" and path.exists():
            path.replace(folder / "previous.ckpt")
        part.replace(path)
    except RuntimeError as error:
        part.unlink(missing_ok=True)
        if "PytorchStreamWriter" not in str(error) and "unexpected pos" not in str(error):
            raise
        raise OSError(errno.ENOSPC, str(error).splitlines()[0]) from error  # torch's words for a full disk
    except OSError:
        part.unlink(missing_ok=True)
        raise


def keep_checkpoints(folder: Path, keep: str) -> None:
    """Remove the checkpoints of a finished run but those to keep: all, best (last where there is none), last, none."""
    names = {"all": ("last", "previous", "best"), "best": ("best",), "last": ("last",), "none": ()}[keep]
    if keep == "best" and not (folder / "best.ckpt").exists():
        names = ("last",)
    for path in folder.glob("*.ckpt"):
        if path.stem not in names:
            path.unlink()


def load_checkpoint(path: Path, *, mapped: bool = False) -> dict[str, Any]:
    """Return a checkpoint's content, tensors and plain values only.

    mapped  read tensors from the file when they are used; it must not be written meanwhile, only replaced
    """
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def find_newest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint that can be read, and messages on those passed over."""
    skipped = []
    for name in ("last", "previous"):
        path = folder / f"{name}.ckpt"
        if path.exists():
            try:
                torch.load(path, map_location="cpu", weights_only=True)  # reads all of it, which finds a torn file
                return path, skipped
            except Exception as error:  # a torn file may fail in any way
                skipped.append(f"{path} cannot be read ({type(error).__name__})")
    return None, skipped


def extract_decoder_weights(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the decoder's state dict from a checkpoint's content."""
    return {key.removeprefix("decoder."): value for key, value in saved["state_dict"].items()}
