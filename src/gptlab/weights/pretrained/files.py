"""A checkpoint on disk: its config and its tensors. Nothing in it is executed; what is not whole is refused in a line.

A folder with config.json and model.safetensors or pytorch_model.bin (or the shards of either by its .index.json), a
lone .safetensors, .bin, .pt or .pth file, or a name of the Hugging Face hub, whose files are fetched once.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab.errors import Refused

if TYPE_CHECKING:
    from torch import Tensor

NAMES = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
TORCH = (".bin", ".pt", ".pth")
Shapes = dict[str, tuple[int, ...]]


def found(path: str) -> Path:
    """The folder or file that a path or a name of the hub means."""
    here = Path(path).expanduser()
    if here.exists():
        return here
    if path.startswith((".", "/", "~")) or path.count("/") > 1 or here.suffix:
        raise Refused(f"pretrained.path={path} is not there; give a folder, a file, or a name of the hub")
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as error:
        wanted = "a name of the hub needs: pip install 'gptlab[huggingface]'"
        raise Refused(f"pretrained.path={path} is no file here, and {wanted}") from error
    try:
        return Path(snapshot_download(path, allow_patterns=["*.json", "*.safetensors", "tokenizer*"], etag_timeout=5))
    except Exception as error:  # of many kinds, most of them the network's
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Refused(f"pretrained.path={path} is no file here, and the hub does not give it: {line[:160]}") from error


def config(place: Path) -> dict[str, Any]:
    """config.json of a folder, or beside a file."""
    path = (place if place.is_dir() else place.parent) / "config.json"
    if not path.exists():
        raise Refused(
            f"{path} is not there; give the folder that has it, or find the sizes with: python -m gptlab search"
        )
    return read_object(path)


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file, or refuse the file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise Refused(f"{path} cannot be read: {reason}; fetch it again") from error
    if not isinstance(found, dict):
        raise Refused(f"{path} holds no JSON object; fetch it again")
    return found


def files(place: Path) -> list[Path]:
    """The files that hold tensors."""
    if place.is_file():
        return [place]
    for name in NAMES:
        path = place / name
        if path.exists() and name.endswith(".json"):
            return [place / shard for shard in shards(path)]
        if path.exists():
            return [path]
    raise Refused(f"{place} holds no weights: none of {', '.join(NAMES)} is there")


def shards(index: Path) -> list[str]:
    """Return the names of the files that an index spreads the tensors over."""
    listed = read_object(index).get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(isinstance(name, str) for name in listed.values()):
        raise Refused(f"{index} has no weight_map of tensors to files; fetch it again")
    names = sorted({*listed.values()})
    for name in names:
        if not name or Path(name).name != name:
            raise Refused(f"{index} names {name!r}, which is no file of its folder; fetch it again")
        if not (index.parent / name).is_file():
            raise Refused(f"{index} names {name}, which is not there; fetch it too")
    return names


def shapes(place: Path) -> Shapes:
    """Names to shapes; of safetensors without reading a weight."""
    made: Shapes = {}
    for path in files(place):
        if path.suffix == ".safetensors":
            made |= _safe(path, lambda file: {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()})  # noqa: SIM118
        else:
            made |= {name: tuple(one.shape) for name, one in _torch(path).items()}
    return made


def tensors(place: Path) -> "dict[str, Tensor]":
    """Names to weights."""
    made: dict[str, Tensor] = {}
    for path in files(place):
        if path.suffix == ".safetensors":
            made |= _safe(path, lambda file: {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        else:
            made |= _torch(path)
    return made


def _safe(path: Path, take: Callable[[Any], Any]) -> Any:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return take(file)
    except Exception as error:  # SafetensorError, and what the system says
        raise Refused(f"{path} cannot be read as safetensors: {str(error).splitlines()[0]}; fetch it again") from error


def _torch(path: Path) -> "Mapping[str, Tensor]":
    import torch

    if path.suffix not in TORCH:
        raise Refused(f"{path} is no file of weights; give .safetensors, .bin, .pt or .pth")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn file may fail in any way, one with code in it in one
        line = str(error).splitlines()[0]
        code = "Weights only load failed" in line or "Unsupported" in line
        why = "it holds more than weights, which would be executed" if code else line
        raise Refused(f"{path} cannot be read: {why}; save it as safetensors") from error
    state = state.get("state_dict", state.get("model", state)) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(one, torch.Tensor) for one in state.values()):
        raise Refused(f"{path} holds no state dict: names to tensors")
    return state


def sha256(place: Path) -> str:
    """Of all files of weights, in order."""
    stamps = tuple((str(one), one.stat().st_size, one.stat().st_mtime_ns) for one in files(place))
    return _sha256(stamps)


@cache
def _sha256(stamps: tuple[tuple[str, int, int], ...]) -> str:
    total = hashlib.sha256()
    for path, _, _ in stamps:
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
