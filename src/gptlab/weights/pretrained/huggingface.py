"""A checkpoint in Hugging Face's layout: a folder, a file beside its config.json, or a name of the hub.

Its config determines the decoder: model, attention, position, norm, mlp and readout are composed from it, as ordinary
choices that the run keeps. Other overrides apply on the same weights (norm.eps=1e-3, attention.window=64), as far as
shapes allow; fewer kv_heads average the keys and values of neighbouring heads (Ainslie 2023, arXiv:2305.13245), to be
trained further; a smaller model.context truncates a table of positions.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gptlab.config.typecheck import quote_for_shell
from gptlab.errors import Refused
from gptlab.weights.pretrained import Pretrained, families, files
from gptlab.weights.pretrained.config_json import check_config
from gptlab.weights.pretrained.mapping import Shapes, apply_mapping, refuse_misfits

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder


class HuggingFace(Pretrained):
    """A checkpoint in Hugging Face's layout.

    path    a folder, a file, or a name of the hub
    sha256  of the weights; filled in when a run is composed, so that the run depends on these weights
    """

    def __init__(self, *, path: str, sha256: str | None = None) -> None:
        self.path, self.sha256 = path, sha256
        self.location = files.locate_checkpoint(path)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The checked config.json."""
        return check_config(files.read_config(self.location))

    def knobs(self) -> dict[str, Any]:
        return {**families.derive_knobs(self.config), "vocab_multiple": 1}

    def stamp(self) -> str:
        return files.hash_weights(self.location)

    def vocab(self) -> int:
        return self.config["vocab_size"]

    def check(self, decoder: "Decoder") -> None:
        import torch

        shapes = files.read_shapes(self.location)
        # on meta: names and shapes are checked in full, and no weight is read
        self._map_state(decoder, {name: torch.empty(shape, device="meta") for name, shape in shapes.items()})

    def load(self, decoder: "Decoder") -> None:
        # the run's hash holds this stamp: other weights behind the same path are another run
        if self.sha256 not in (None, digest := self.stamp()):
            mismatch = f"sha256 {digest[:8]}..., not {str(self.sha256)[:8]}..."
            raise Refused(f"pretrained.path={self.path} holds other weights now ({mismatch})")
        if decoder.shape.vocab != self.vocab():
            sizes = f"{self.vocab():,} tokens, the tokenizer {decoder.shape.vocab:,}"
            where = f"tokenizer=file tokenizer.path={quote_for_shell(self.path)}"
            if not (self.location / "tokenizer.json").is_file():
                where = "no tokenizer.json is with it; tokenizer=file tokenizer.path=<that file>"
            raise Refused(
                f"pretrained.path={self.path} has {sizes}; take its own: {where} tokenizer.vocab={self.vocab()} "
                "(GPT-2's is tokenizer=gpt2)"
            )
        weights = self._map_state(decoder, files.read_tensors(self.location))
        decoder.load_state_dict(weights, strict=False)  # all but a tied head

    def _map_state(self, decoder: "Decoder", tensors: "dict[str, Tensor]") -> "dict[str, Tensor]":
        """Return the weights under our names, in the shapes of the decoder."""
        family = families.find_family(self.config)
        source = strip_prefixes(tensors, family)
        wanted = {name: tuple(tensor.shape) for name, tensor in decoder.state_dict().items()}
        if _is_tied(decoder):
            # one tensor under two names; a file that holds both must hold the same
            wanted.pop("readout.head.weight")
            head, embedding = source.pop("lm_head.weight", None), source.get(family.embedding)
            if head is not None and embedding is not None and not head.is_meta and not head.equal(embedding):
                refuse_misfits(["lm_head.weight is not the embedding, though the config ties them"])
        fitted = {name: fit_tensor(name, tensor, wanted, self.config) for name, tensor in source.items()}
        return apply_mapping(family.names(self.config), fitted, wanted)


WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Prefixes that torch.compile and module wrappers put into names, at any depth."""


def strip_prefixes(tensors: "Mapping[str, Tensor]", family: families.Family) -> "dict[str, Tensor]":
    """Remove from parameter names what wrappers put there, then the family's own prefix.

    A prefix such as module. or base_model.model. is found from the embedding's name.
    """
    wrappers = re.compile("|".join(map(re.escape, WRAPPERS)))
    renamed = {name: wrappers.sub("", name) for name in tensors}
    embedding = next((name for name in renamed.values() if name.endswith(family.embedding)), family.embedding)
    # what stands before the embedding's name stands before all names
    prefix = embedding.removesuffix(family.embedding).removesuffix(family.prefix)
    source = {name.removeprefix(prefix).removeprefix(family.prefix): tensors[old] for old, name in renamed.items()}
    if len(source) < len(tensors):
        refuse_misfits(
            [f"of {len(tensors)} tensors {len(tensors) - len(source)} have the name of another without its prefix"]
        )
    return source


def _is_tied(decoder: "Decoder") -> bool:
    """Return whether the decoder's head is its embedding."""
    head = getattr(decoder.readout, "head", None)
    return head is not None and head.weight is decoder.embedding.weight


def fit_tensor(name: str, tensor: "Tensor", wanted: Shapes, config: dict[str, Any]) -> "Tensor":
    """Truncate a position table and pool key and value heads, where the decoder has fewer than the checkpoint."""
    if not tensor.dim():
        return tensor
    if name == "wpe.weight":
        rows = wanted["position.table.weight"][0] if "position.table.weight" in wanted else len(tensor)
        return tensor[:rows]
    if ".k_proj." in name or ".v_proj." in name:
        rows = wanted.get("blocks.0.attention.k.weight", (len(tensor),))[0]
        return pool_heads(tensor, rows, _head_width(config))
    return tensor


def pool_heads(tensor: "Tensor", rows: int, head: int) -> "Tensor":
    """Average neighbouring heads: (heads * head, ...) to (rows, ...); unchanged where `rows` does not divide them."""
    heads, wanted_heads = len(tensor) // head, rows // head
    if wanted_heads >= heads or rows % head or heads % wanted_heads:
        return tensor
    # neighbours share a query group in GQA, so they are averaged
    return tensor.unflatten(0, (wanted_heads, heads // wanted_heads, head)).mean(1).flatten(0, 1)


def _head_width(config: dict[str, Any]) -> int:
    """Return the width of an attention head."""
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
