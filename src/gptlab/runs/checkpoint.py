"""Checkpoints of a run: last, previous and best. Each is written whole or not at all, and read weights-only.

state_dict                          the weights, decoder.* by name
optimizer_states, lr_schedulers     of each, as torch has them
callbacks                           run: RunState (training/state.py); and what each callback returns from state_dict
task                                sums since the last row of the log, seconds so far (training/task.py)
global_step, loops                  Lightning's counts

`best` has neither optimizer, schedule nor callbacks. No generator is saved: batches and dropout are functions of seed
and step.
"""

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:  # reading takes no lightning, so that `python -m gptlab sample` starts two seconds sooner
    from lightning import Trainer


def save_checkpoint(trainer: "Trainer", folder: Path, name: str, weights_only: bool = False) -> None:
    """Write <name>.ckpt; a `last` that stood there becomes `previous`. All ranks call it, the first one writes."""
    part, path = folder / f".{name}.part", folder / f"{name}.ckpt"
    try:
        trainer.save_checkpoint(part, weights_only=weights_only)
        if not trainer.is_global_zero:
            return
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
