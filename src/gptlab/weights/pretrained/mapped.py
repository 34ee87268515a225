"""A checkpoint of any origin, in a folder that says what it is:

model.safetensors    its weights, under their own names
keys_mapping.json    their tensors to ours (mapping.py)
decoder.json         {"vocab": 512, "knobs": {"model.heads": 2, "norm": "layernorm", ...}}: overrides of train.py

`python -m gptlab search` writes such a folder; or write it by hand.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab.config.recipe import PARTS
from gptlab.config.typecheck import conforms
from gptlab.errors import Refused
from gptlab.weights.pretrained import Pretrained, files
from gptlab.weights.pretrained.mapping import Entry, Mapping, apply, parse, places

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder

SLOTS = (*PARTS, "model", "bias", "final_norm", "vocab_multiple")
"""What a checkpoint, which may come from a stranger, may say of a run."""
TABLE = "position.table.weight"


class Mapped(Pretrained):
    """path: the folder. sha256: of its weights; filled in when a run is composed, so that the run is of these."""

    def __init__(self, *, path: str, sha256: str | None = None) -> None:
        self.path, self.sha256 = path, sha256
        self.place = Path(path).expanduser()
        self.told = files.read_object(self.place / "decoder.json")
        for key, kind in (("vocab", int), ("knobs", dict)):
            if not isinstance(self.told.get(key), kind):
                raise Refused(f'pretrained.path={path}: its decoder.json is not {{"vocab": 512, "knobs": {{...}}}}')
        if not conforms(self.told["vocab"], int) or self.told["vocab"] < 1:
            raise Refused(f"pretrained.path={path}: its decoder.json has vocab={self.told['vocab']}; give tokens > 0")

    def knobs(self) -> dict[str, Any]:
        for key in self.told["knobs"]:
            if key.split(".")[0] not in SLOTS:
                raise Refused(
                    f"pretrained.path={self.path}: its decoder.json sets {key}; only {', '.join(SLOTS)} are its"
                )
        return self.told["knobs"]

    def stamp(self) -> str:
        return files.sha256(self.place)

    def vocab(self) -> int:
        return self.told["vocab"]

    def check(self, decoder: "Decoder") -> None:
        import torch

        shapes = files.shapes(self.place)
        self._state(decoder, {name: torch.empty(shape, device="meta") for name, shape in shapes.items()})

    def load(self, decoder: "Decoder") -> None:
        if self.sha256 not in (None, found := self.stamp()):
            here = f"sha256 {found[:8]}..., not {str(self.sha256)[:8]}..."
            raise Refused(f"pretrained.path={self.path} holds other weights now ({here})")
        if decoder.shape.vocab != self.vocab():
            sizes = f"{self.vocab():,} tokens, the tokenizer {decoder.shape.vocab:,}"
            raise Refused(f"pretrained.path={self.path} has {sizes}; take the one that it was trained with")
        decoder.load_state_dict(self._state(decoder, files.tensors(self.place)), strict=False)  # all but a tied head

    def _state(self, decoder: "Decoder", source: "dict[str, Tensor]") -> "dict[str, Tensor]":
        wanted = {name: tuple(one.shape) for name, one in decoder.named_parameters()}
        mapping = parse(files.read_object(self.place / "keys_mapping.json"), decoder.shape.head)
        for name, (_, targets) in places(mapping, source).items():
            if targets == [TABLE] and TABLE in wanted:  # a smaller model.context cuts it
                source = {**source, name: source[name][: wanted[TABLE][0]]}
        return apply(mapping, source, wanted)


def write(folder: Path, mapping: Mapping, decoder: dict[str, Any]) -> None:
    """keys_mapping.json and decoder.json."""
    told = {**{entry.source: _written(entry) for entry in mapping.entries}, "ignore": [*mapping.ignore]}
    for name, value in (("keys_mapping.json", told), ("decoder.json", decoder)):
        (folder / name).write_text(json.dumps(value, indent=2), encoding="utf-8")


def _written(entry: Entry) -> dict[str, Any]:
    """What `parse` reads."""
    made: dict[str, Any] = {"to": [*entry.to], "transpose": entry.transpose}
    if entry.sizes:
        made["split"] = {"axis": entry.axis, "sizes": [*entry.sizes]}
    if entry.interleaved:
        made["heads"] = "per_head_interleaved"
    if entry.permute != "none":
        made["permute"] = entry.permute
    return made if entry.squeeze is None else {**made, "squeeze": entry.squeeze}
