"""Pretrained weights: read from a checkpoint, checked, renamed to this decoder's parameters, and written back.

files        files on disk: config.json, safetensors or torch files, shards; weights only, nothing is executed
mapping      the checkpoint's tensors to ours, by name and layout: keys_mapping.json
config_json  checks of a config.json
families     what each family's config means as overrides, and its parameter names
huggingface  checkpoints in Hugging Face's layout
mapped       checkpoints of any origin, with a keys_mapping.json
"""

from typing import TYPE_CHECKING, Any

from gptlab.config.factory import check_node, factory
from gptlab.config.typecheck import format_value
from gptlab.errors import Refused

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder


class Pretrained:
    """Contract of the slot: __init__(*, path, sha256, knobs)."""

    def knobs(self) -> dict[str, Any]:
        """Return the overrides of train.py that build the checkpoint's decoder."""
        raise NotImplementedError

    def stamp(self) -> str:
        """Return the sha256 of the weights."""
        raise NotImplementedError

    def vocab(self) -> int:
        """Return the number of tokens in the vocabulary."""
        raise NotImplementedError

    def check(self, decoder: "Decoder") -> None:
        """Refuse a checkpoint that does not fit a decoder on the meta device, with all problems at once.

        Read no weights.
        """
        raise NotImplementedError

    def load(self, decoder: "Decoder") -> None:
        """Load the weights into a decoder."""
        raise NotImplementedError


def load_source(node: dict[str, Any]) -> Pretrained:
    """Return the checkpoint of a composed `pretrained` node; raise Refused if the node is wrong."""
    for line in check_node(node, "pretrained"):
        raise Refused(line)
    return factory(node, "pretrained")()


FINE_TUNING_LR, ADAPTER_LR = 3e-5, 2e-4
"""Learning rates for pretrained weights: nanoGPT's (config/finetune_shakespeare.py), and LoRA's for GPT-2 (Hu
2021, arXiv:2106.09685)."""


def overrides_from_checkpoint(
    node: dict[str, Any], given_keys: set[str], adapted: bool = False
) -> tuple[list[str], dict[str, str]]:
    """Return the overrides that a checkpoint implies: choices of variants, and those of knobs by key.

    They leave out the `given_keys` of the command line, and include a learning rate for pretrained weights, or with
    `adapted` for adapters beside them.
    """
    checkpoint = load_source(node)
    # a rate that was typed wins: given keys are left out below
    rate = {"model.lr": ADAPTER_LR if adapted else FINE_TUNING_LR}
    knobs = {**rate, **checkpoint.knobs(), "pretrained.sha256": checkpoint.stamp()}
    choices: list[str] = []
    overrides: dict[str, str] = {}
    for key, value in knobs.items():
        if key in given_keys:
            continue
        text = format_value(value).strip("'")
        override = f"{key}={text}"
        # choices of slots have to be composed first: which knobs exist depends on them
        if "." not in key and isinstance(value, str):
            choices.append(override)
        else:
            overrides[key] = override
    return choices, overrides
