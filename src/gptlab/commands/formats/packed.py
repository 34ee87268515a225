"""Export a finished run as a folder of packed weights, which `sample` and gptlab.load open like the run itself.

Changes of the run's Linears are folded into them first, so that pruned, rounded and adapted runs are packed alike.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import yaml

from gptlab.commands.unfinished import read_weights_step
from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.runs.record import fill_folder, read_json, read_recipe, to_json, write_atomically
from gptlab.runs.unfinished import find_unfinished
from gptlab.training.build import apply_changes
from gptlab.training.restore import load_run
from gptlab.weights.change import merge, summary_metrics

Compose = Callable[[list[str]], Recipe]


def export_packed(run: Path, format: str, into: Path, compose: Compose) -> dict[str, float]:
    """Write the folder, which must not be there yet.

    Returns the bytes of packed weights, of the same in float32, of all that is kept of the decoder, and of its file.
    """
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
    decoder, _ = load_run(run)
    try:
        # merged first: what is packed is the weight that the run computes with
        decoder = apply_changes(packed, merge(decoder))
    except ValueError as error:
        raise Refused(f"{run} cannot be packed: {error}") from error
    state = decoder.state_dict()
    bytes_by_storage = {
        tensor.untyped_storage().data_ptr(): tensor.nbytes for tensor in state.values()
    }  # a tied weight once
    with fill_folder(into) as part:
        (part / "checkpoints").mkdir()
        for name in ("config.yaml", "tokenizer.json", "run.json"):
            write_atomically(part / name, _read_file(name, run, packed))
        path = part / "checkpoints" / "last.ckpt"
        torch.save({"state_dict": {f"decoder.{name}": tensor for name, tensor in state.items()}}, path)
        facts = {**summary_metrics(decoder), "bytes": sum(bytes_by_storage.values()), "file_bytes": path.stat().st_size}
        origin = {"status": "packed", "of": run.name}
        if (unfinished := find_unfinished(run)) is not None:
            origin["unfinished"] = f"step {read_weights_step(run) or 0:,} of {unfinished.steps:,}"
        write_atomically(part / "summary.json", to_json({**origin, **facts}, indent=2))
    return facts


def _read_file(name: str, run: Path, packed: Recipe) -> str:
    if name == "config.yaml":
        return yaml.safe_dump(packed.config, sort_keys=False, allow_unicode=True)
    if name == "run.json":
        own = {"choices": packed.choices, "differs": packed.differs, "hash": packed.hash}
        return to_json({**read_json(run / name), **own}, indent=2)
    return (run / name).read_text(encoding="utf-8")
