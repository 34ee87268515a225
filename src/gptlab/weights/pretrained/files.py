"""A checkpoint on disk: its config and its tensors. Nothing in it is executed; a damaged file is refused in one line.

A folder with config.json and model.safetensors or pytorch_model.bin (or the shards of either by its .index.json), a
single .safetensors, .bin, .pt or .pth file, or a name of the Hugging Face hub, whose files are fetched once.
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

WEIGHT_FILES = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
TORCH_SUFFIXES = (".bin", ".pt", ".pth")
Shapes = dict[str, tuple[int, ...]]


def locate_checkpoint(path: str) -> Path:
    """Return the folder or file of a path or of a name of the hub, which is fetched if it is not in the hub's cache."""
    location = Path(path).expanduser()
    if location.exists():
        return location
    # plainly meant as a file: the hub must not be asked for it
    if path.startswith((".", "/", "~")) or path.count("/") > 1 or location.suffix:
        raise Refused(f"pretrained.path={path} is not there; give a folder, a file, or a name of the hub")
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as error:
        remedy = "a name of the hub needs: pip install 'gptlab[huggingface]'"
        raise Refused(f"pretrained.path={path} is no file here, and {remedy}") from error
    try:
        return Path(snapshot_download(path, allow_patterns=["*.json", "*.safetensors", "tokenizer*"], etag_timeout=5))
    except Exception as error:  # of many kinds, most of them the network's
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        problem = f"pretrained.path={path} is no file here, and the hub does not give it: {line[:160]}"
        raise Refused(f"{problem}; give a folder, or check the name and the network") from error


def read_config(location: Path) -> dict[str, Any]:
    """Return the config.json in a folder or beside a file."""
    path = (location if location.is_dir() else location.parent) / "config.json"
    if not path.exists():
        refuse_run_folder(location)
        raise Refused(
            f"{path} is not there; give the folder that has it, or find the sizes with: python -m gptlab search"
        )
    return read_object(path)


def refuse_run_folder(location: Path) -> None:
    """Refuse a folder that is one of our own runs, whose weights come in through an export."""
    if (location / "run.json").is_file():
        raise Refused(
            f"pretrained.path={location} is a run of gptlab; python -m gptlab export {location} --to hf writes "
            f"{location / 'hf'} for it, and like={location} begins another run of its recipe"
        )


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; raise Refused if it has none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise Refused(f"{path} is not there; give a folder or a file that is") from error
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise Refused(f"{path} cannot be read: {reason}; fetch it again") from error
    if not isinstance(content, dict):
        raise Refused(f"{path} holds no JSON object; fetch it again")
    return content


def list_weight_files(location: Path) -> list[Path]:
    """Return the files that hold the tensors."""
    if location.is_file():
        return [location]
    for name in WEIGHT_FILES:
        path = location / name
        if path.exists() and name.endswith(".json"):
            return [location / shard for shard in list_shards(path)]
        if path.exists():
            return [path]
    raise Refused(f"{location} holds no weights: none of {', '.join(WEIGHT_FILES)} is there")


def list_shards(index: Path) -> list[str]:
    """Return the names of the files over which an index spreads the tensors."""
    weight_map = read_object(index).get("weight_map")
    is_map = isinstance(weight_map, dict) and all(isinstance(name, str) for name in weight_map.values())
    if not is_map or not weight_map:
        raise Refused(f"{index} has no weight_map of tensors to files; fetch it again")
    names = sorted({*weight_map.values()})
    for name in names:
        # an index may come from a stranger, and lead out of the folder
        if not name or Path(name).name != name:
            raise Refused(f"{index} names {name!r}, which is no file of its folder; fetch it again")
        if not (index.parent / name).is_file():
            raise Refused(f"{index} names {name}, which is not there; fetch it too")
    return names


def read_shapes(location: Path) -> Shapes:
    """Return the shapes of the tensors by name; of safetensors without reading a weight."""
    shapes: Shapes = {}
    for path in list_weight_files(location):
        if path.suffix == ".safetensors":
            shapes |= _read_safetensors(path, lambda file, name: tuple(file.get_slice(name).get_shape()))
        else:
            shapes |= {name: tuple(tensor.shape) for name, tensor in _read_torch_file(path).items()}
    return shapes


def read_tensors(location: Path) -> "dict[str, Tensor]":
    """Return the tensors by name."""
    tensors: dict[str, Tensor] = {}
    for path in list_weight_files(location):
        if path.suffix == ".safetensors":
            tensors |= _read_safetensors(path, lambda file, name: file.get_tensor(name))
        else:
            tensors |= _read_torch_file(path)
    return tensors


def _read_safetensors(path: Path, read: Callable[[Any, str], Any]) -> dict[str, Any]:
    """Return `read(file, name)` for each tensor of a safetensors file, by name."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: read(file, name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # SafetensorError, and what the system says
        raise Refused(f"{path} cannot be read as safetensors: {str(error).splitlines()[0]}; fetch it again") from error


def _read_torch_file(path: Path) -> "Mapping[str, Tensor]":
    """Return the state dict of a torch file, loaded without executing code."""
    import torch

    if path.suffix not in TORCH_SUFFIXES:
        raise Refused(f"{path} is no file of weights; give .safetensors, .bin, .pt or .pth")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn file may fail in any way, one with code in it in one
        line = str(error).splitlines()[0]
        has_code = "Weights only load failed" in line or "Unsupported" in line
        reason = "it holds more than weights, which would be executed" if has_code else line
        raise Refused(f"{path} cannot be read: {reason}; save it as safetensors") from error
    # as Lightning and nanoGPT save it, or bare
    state = state.get("state_dict", state.get("model", state)) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise Refused(f"{path} holds no state dict: names to tensors")
    return state


def hash_weights(location: Path) -> str:
    """Return one sha256 of all weight files in their order."""
    stamps = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in list_weight_files(location))
    return _hash_files(stamps)


@cache
def _hash_files(stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Return the sha256 of files given by path, size and modification time, which are the key of the cache."""
    total = hashlib.sha256()
    for path, _, _ in stamps:
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
