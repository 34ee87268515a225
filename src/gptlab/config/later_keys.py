"""Keys that are younger than some runs on disk: these runs are what they were, by hash, and can be resumed."""

from typing import Any

LATER_KEYS: dict[str, dict[str, Any]] = {
    "evaluation": {"part": "all", "final": None},
    "model": {"loops": 1, "loop_order": "cycle"},
    "data": {"documents": None, "mask_documents": False, "packing": "stream", "curriculum": None},
    "trainer": {"cuda_graph": False},
}
"""By group the keys that came later, each with the value at which all is as it was before."""


def list_later_keys(group: str, node: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a group that came later, with the value at which all is as it was."""
    if group == "data" and str(node.get("_target_")).endswith(".HuggingFace"):  # a stream has had it from its first day
        return {**LATER_KEYS[group], "revision": None}
    return LATER_KEYS[group]
