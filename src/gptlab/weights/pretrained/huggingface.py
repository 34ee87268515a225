"""A checkpoint in Hugging Face's layout: a folder, a file beside its config.json, or a name of the hub.

Its config decides the decoder: model, attention, position, norm, mlp, readout are composed from it, as ordinary
choices that the run keeps. What is said besides is done on the same weights (norm.eps=1e-3, attention.window=64), as
far as shapes allow; fewer kv_heads pool the keys and values of neighbours by their mean (Ainslie 2023,
arXiv:2305.13245), to be trained further; a smaller model.context cuts a table of positions.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gptlab.errors import Refused
from gptlab.weights.pretrained import Pretrained, families, files
from gptlab.weights.pretrained.config_json import check_config
from gptlab.weights.pretrained.mapping import Shapes, apply, refuse

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder


class HuggingFace(Pretrained):
    """path: where it is. sha256: of its weights; filled in when a run is composed, so that the run is of these."""

    def __init__(self, *, path: str, sha256: str | None = None) -> None:
        self.path, self.sha256 = path, sha256
        self.place = files.found(path)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The checked config.json."""
        return check_config(files.config(self.place))

    def knobs(self) -> dict[str, Any]:
        return {**families.knobs(self.config), "vocab_multiple": 1}

    def stamp(self) -> str:
        return files.sha256(self.place)

    def vocab(self) -> int:
        return self.config["vocab_size"]

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
            own = f"tokenizer=file tokenizer.path={self.path} tokenizer.vocab={self.vocab()}"
            raise Refused(f"pretrained.path={self.path} has {sizes}; take its own: {own} (GPT-2's is tokenizer=gpt2)")
        decoder.load_state_dict(self._state(decoder, files.tensors(self.place)), strict=False)  # all but a tied head

    def _state(self, decoder: "Decoder", tensors: "dict[str, Tensor]") -> "dict[str, Tensor]":
        """Weights under our names, as the decoder wants them."""
        family = families.family(self.config)
        source = rename(tensors, family)
        wanted = {name: tuple(one.shape) for name, one in decoder.state_dict().items()}
        if _tied(decoder):
            wanted.pop("readout.head.weight")
            head, embedding = source.pop("lm_head.weight", None), source.get(family.embedding)
            if head is not None and embedding is not None and not head.is_meta and not head.equal(embedding):
                refuse(["lm_head.weight is not the embedding, though the config ties them"])
        fitted = {name: fit(name, one, wanted, self.config) for name, one in source.items()}
        return apply(family.names(self.config), fitted, wanted)


WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile and wrappers of modules put into names, at any depth."""


def rename(tensors: "Mapping[str, Tensor]", family: families.Family) -> "dict[str, Tensor]":
    """Take off what wrappers put before names (module., base_model.model.), which the embedding's name shows, then the
    family's own prefix."""
    renamed = {name: re.sub("|".join(map(re.escape, WRAPPERS)), "", name) for name in tensors}
    embedding = next((name for name in renamed.values() if name.endswith(family.embedding)), family.embedding)
    prefix = embedding.removesuffix(family.embedding).removesuffix(family.prefix)
    source = {name.removeprefix(prefix).removeprefix(family.prefix): tensors[old] for old, name in renamed.items()}
    if len(source) < len(tensors):
        refuse([f"of {len(tensors)} tensors {len(tensors) - len(source)} have the name of another without its prefix"])
    return source


def _tied(decoder: "Decoder") -> bool:
    head = getattr(decoder.readout, "head", None)
    return head is not None and head.weight is decoder.embedding.weight


def fit(name: str, tensor: "Tensor", wanted: Shapes, config: dict[str, Any]) -> "Tensor":
    """Cut and pooled where a decoder was asked for with fewer positions or fewer heads of keys and values."""
    if not tensor.dim():
        return tensor
    if name == "wpe.weight":
        rows = wanted["position.table.weight"][0] if "position.table.weight" in wanted else len(tensor)
        return tensor[:rows]
    if ".k_proj." in name or ".v_proj." in name:
        rows = wanted.get("blocks.0.attention.k.weight", (len(tensor),))[0]
        return pooled(tensor, rows, _head(config))
    return tensor


def pooled(tensor: "Tensor", rows: int, head: int) -> "Tensor":
    """(heads x head, ...) to (rows, ...): the mean of neighbouring heads."""
    have, want = len(tensor) // head, rows // head
    if want >= have or rows % head or have % want:
        return tensor
    return tensor.unflatten(0, (want, have // want, head)).mean(1).flatten(0, 1)


def _head(config: dict[str, Any]) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
