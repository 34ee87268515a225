"""Weights that others trained: read, checked, brought into our names, and written back.

files     what is on disk: config.json, safetensors or torch files, shards; weights only, nothing is executed
mapping   their tensors to ours, by name and layout: keys_mapping.json
config_json  its config, checked
families  what each family's config means in our choices, and its names
export    a run in their layout
differ    the first block and tensor that say something else than transformers does
"""

from typing import TYPE_CHECKING, Any

from gptlab.config.factory import check_node, factory
from gptlab.config.typecheck import format_value
from gptlab.errors import Refused

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder


class Pretrained:
    """The slot's contract: __init__(*, path, sha256, knobs)."""

    def knobs(self) -> dict[str, Any]:
        """Overrides of train.py that make its decoder."""
        raise NotImplementedError

    def stamp(self) -> str:
        """The sha256 of its weights."""
        raise NotImplementedError

    def vocab(self) -> int:
        """How many tokens it knows."""
        raise NotImplementedError

    def check(self, decoder: "Decoder") -> None:
        """Refuses what does not fit a decoder on the meta device, all of it at once; reads no weight."""
        raise NotImplementedError

    def load(self, decoder: "Decoder") -> None:
        """Gives a decoder its weights."""
        raise NotImplementedError


def source(node: dict[str, Any]) -> Pretrained:
    """The checkpoint of a composed `pretrained`."""
    for line in check_node(node, "pretrained"):
        raise Refused(line)
    return factory(node, "pretrained")()


FINE_TUNING, ADAPTING = 3e-5, 2e-4
"""Learning rates for weights that others trained: nanoGPT's (config/finetune_shakespeare.py), and LoRA's for GPT-2 (Hu
2021, arXiv:2106.09685)."""


def words(node: dict[str, Any], given: set[str], adapted: bool = False) -> tuple[list[str], dict[str, str]]:
    """What a checkpoint stands for on a command line where nothing else was `given`: choices, and knobs by key; among
    them a rate for trained weights, or for adapters beside them."""
    found = source(node)
    rate = {"model.lr": ADAPTING if adapted else FINE_TUNING}
    wanted = {**rate, **found.knobs(), "pretrained.sha256": found.stamp()}
    asked = {key: f"{key}={format_value(value).strip(chr(39))}" for key, value in wanted.items() if key not in given}
    slots = [word for key, word in asked.items() if "." not in key and isinstance(wanted[key], str)]
    return slots, {key: word for key, word in asked.items() if word not in slots}
