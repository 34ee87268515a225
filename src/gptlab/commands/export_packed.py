"""A finished run as a folder of packed weights, which `sample` and gptlab.load open like the run itself.

What was done to the run's Linears is folded into them first, so that pruned, rounded and adapted runs are packed alike.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import yaml

from gptlab.build import changed
from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.restore import load
from gptlab.runs.record import read_json, read_recipe, to_json, write_atomically
from gptlab.weights.change import merge, told

Compose = Callable[[list[str]], Recipe]


def export(run: Path, format: str, into: Path, compose: Compose) -> dict[str, float]:
    """Writes the folder, which must not be there yet; gives the bytes of packed weights, of the same in float32, of all
    that is kept of the decoder, and of its file."""
    if into.exists():
        raise Refused(f"--into={into} is there already; name another folder")
    node = compose(["change=[pack]", f"format@change.pack.format={format}"]).config["change"]
    recipe = read_recipe(run)
    packed = replace(
        recipe,
        config={**recipe.config, "change": node},
        choices={**recipe.choices, "change": "pack"},
        differs=(*recipe.differs, format),
    )
    decoder, _ = load(run)
    try:
        decoder = changed(packed, merge(decoder))
    except ValueError as error:
        raise Refused(f"{run} cannot be packed: {error}") from error
    made = into.with_name(f".{into.name}.{os.getpid()}")  # until it is whole
    (made / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "tokenizer.json", "run.json"):
        write_atomically(made / name, _file(name, run, packed))
    path = made / "checkpoints" / "last.ckpt"
    state = decoder.state_dict()
    torch.save({"state_dict": {f"decoder.{name}": one for name, one in state.items()}}, path)
    kept = {one.untyped_storage().data_ptr(): one.nbytes for one in state.values()}  # a tied weight once
    found = {**told(decoder), "bytes": sum(kept.values()), "file_bytes": path.stat().st_size}
    write_atomically(made / "summary.json", to_json({"status": "packed", "of": run.name, **found}, indent=2))
    made.rename(into)
    return found


def _file(name: str, run: Path, packed: Recipe) -> str:
    if name == "config.yaml":
        return yaml.safe_dump(packed.config, sort_keys=False, allow_unicode=True)
    if name == "run.json":
        own = {"choices": packed.choices, "differs": packed.differs, "hash": packed.hash}
        return to_json({**read_json(run / name), **own}, indent=2)
    return (run / name).read_text(encoding="utf-8")
