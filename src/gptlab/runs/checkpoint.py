"""Checkpoints of a run: last, previous and best. Each is written whole or not at all, and read weights-only."""

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:  # reading takes no lightning, so that `python -m gptlab sample` starts two seconds sooner
    from lightning import Trainer


def save(trainer: "Trainer", folder: Path, name: str, weights_only: bool = False) -> None:
    """Writes <name>.ckpt; a `last` that stood there becomes `previous`. All ranks call it, the first one writes."""
    part, path = folder / f".{name}.part", folder / f"{name}.ckpt"
    try:
        trainer.save_checkpoint(part, weights_only=weights_only)
        if not trainer.is_global_zero:
            return
        with part.open("rb") as file:
            os.fsync(file.fileno())
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


def load(path: Path) -> dict[str, Any]:
    """A checkpoint's content, tensors and plain values only."""
    return torch.load(path, map_location="cpu", weights_only=True)


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that can be read, and what had to be passed over."""
    passed = []
    for name in ("last", "previous"):
        path = folder / f"{name}.ckpt"
        if path.exists():
            try:
                load(path)
                return path, passed
            except Exception as error:  # a torn file may fail in any way
                passed.append(f"{path} cannot be read ({type(error).__name__})")
    return None, passed


def weights(saved: dict[str, Any]) -> dict[str, Any]:
    """The decoder's state dict in a checkpoint's content."""
    return {key.removeprefix("decoder."): value for key, value in saved["state_dict"].items()}
