"""A checkpoint of any origin, in a folder that describes it:

model.safetensors    its weights, under their own names
keys_mapping.json    the mapping of its tensors to ours (mapping.py)
decoder.json         {"vocab": 512, "knobs": {"model.heads": 2, "norm": "layernorm", ...}}: overrides of train.py

`python -m gptlab search` writes such a folder; it can also be written by hand.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab.config.recipe import PARTS
from gptlab.config.typecheck import conforms
from gptlab.errors import Refused
from gptlab.weights.pretrained import Pretrained, files
from gptlab.weights.pretrained.mapping import Entry, Mapping, apply_mapping, match_entries, parse_mapping

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder

ALLOWED_SLOTS = (*PARTS, "model", "bias", "final_norm", "embedding_norm", "embedding_scale", "vocab_multiple")
"""Slots that decoder.json may set: a checkpoint may come from a stranger."""
POSITION_TABLE = "position.table.weight"


class Mapped(Pretrained):
    """A checkpoint with a keys_mapping.json.

    path    the folder
    sha256  of weights and mapping; filled in when a run is composed, so that the run depends on them
    """

    def __init__(self, *, path: str, sha256: str | None = None) -> None:
        self.path, self.sha256 = path, sha256
        self.location = Path(path).expanduser()
        if not (self.location / "decoder.json").exists():
            files.refuse_run_folder(self.location)
            raise Refused(
                f"pretrained.path={path} has no decoder.json, which python -m gptlab search writes; "
                "where config.json is of transformers, say pretrained=hf"
            )
        self.facts = files.read_object(self.location / "decoder.json")
        for key, kind in (("vocab", int), ("knobs", dict)):
            if not isinstance(self.facts.get(key), kind):
                raise Refused(f'pretrained.path={path}: its decoder.json is not {{"vocab": 512, "knobs": {{...}}}}')
        if not conforms(self.facts["vocab"], int) or self.facts["vocab"] < 1:
            raise Refused(f"pretrained.path={path}: its decoder.json has vocab={self.facts['vocab']}; give tokens > 0")

    def knobs(self) -> dict[str, Any]:
        for key in self.facts["knobs"]:
            # it must not choose outputs, data or callbacks of whoever loads it
            if key.split(".")[0] not in ALLOWED_SLOTS:
                raise Refused(
                    f"pretrained.path={self.path}: its decoder.json sets {key}; only {', '.join(ALLOWED_SLOTS)} are its"
                )
        return self.facts["knobs"]

    def stamp(self) -> str:
        # the same file with q and k exchanged is another decoder
        weights = files.hash_weights(self.location)
        mapping = json.dumps(files.read_object(self.location / "keys_mapping.json"), sort_keys=True)
        return hashlib.sha256(f"{weights} {mapping}".encode()).hexdigest()

    def vocab(self) -> int:
        return self.facts["vocab"]

    def check(self, decoder: "Decoder") -> None:
        import torch

        shapes = files.read_shapes(self.location)
        self._map_state(decoder, {name: torch.empty(shape, device="meta") for name, shape in shapes.items()})

    def load(self, decoder: "Decoder") -> None:
        if self.sha256 not in (None, digest := self.stamp()):
            mismatch = f"sha256 {digest[:8]}..., not {str(self.sha256)[:8]}..."
            raise Refused(f"pretrained.path={self.path} holds other weights, or another mapping, now ({mismatch})")
        if decoder.shape.vocab != self.vocab():
            sizes = f"{self.vocab():,} tokens, the tokenizer {decoder.shape.vocab:,}"
            raise Refused(f"pretrained.path={self.path} has {sizes}; take the one that it was trained with")
        weights = self._map_state(decoder, files.read_tensors(self.location))
        decoder.load_state_dict(weights, strict=False)  # all but a tied head

    def _map_state(self, decoder: "Decoder", source: "dict[str, Tensor]") -> "dict[str, Tensor]":
        """Return the weights under our names, in the shapes of the decoder."""
        wanted = {name: tuple(tensor.shape) for name, tensor in decoder.named_parameters()}
        mapping = parse_mapping(files.read_object(self.location / "keys_mapping.json"), decoder.shape.head)
        for name, (_, targets) in match_entries(mapping, source).items():
            if targets == [POSITION_TABLE] and POSITION_TABLE in wanted:  # a smaller model.context cuts it
                source = {**source, name: source[name][: wanted[POSITION_TABLE][0]]}
        return apply_mapping(mapping, source, wanted)


def write_mapping(folder: Path, mapping: Mapping, decoder: dict[str, Any]) -> None:
    """Write keys_mapping.json and decoder.json into a folder."""
    entries: dict[str, Any] = {entry.source: _format_entry(entry) for entry in mapping.entries}
    entries["ignore"] = [*mapping.ignore]
    for name, value in (("keys_mapping.json", entries), ("decoder.json", decoder)):
        (folder / name).write_text(json.dumps(value, indent=2), encoding="utf-8")


def _format_entry(entry: Entry) -> dict[str, Any]:
    """Return an entry in the form that `parse_mapping` reads."""
    fields: dict[str, Any] = {"to": [*entry.to], "transpose": entry.transpose}
    if entry.sizes:
        fields["split"] = {"axis": entry.axis, "sizes": [*entry.sizes]}
    if entry.interleaved:
        fields["heads"] = "per_head_interleaved"
    if entry.permute != "none":
        fields["permute"] = entry.permute
    return fields if entry.squeeze is None else {**fields, "squeeze": entry.squeeze}
