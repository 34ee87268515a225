"""Mapping of a checkpoint's tensors to ours: keys_mapping.json, from source names to what becomes of each.

    {"h.{i}.attn.c_attn.weight": {"to": ["blocks.{i}.attention.q.weight", "...k.weight", "...v.weight"],
                                  "transpose": true, "split": {"axis": 0, "parts": 3}},
     "wte.weight": "embedding.weight", "ignore": ["h.{i}.attn.bias"]}

In this order: squeeze an axis of length 1; transpose (true, false, or "auto": where the target's shape wants it and
only then); heads ("per_head_interleaved": rows are q, k, v of the first head, then of the second); split what this has
become into the targets (a bare list splits the last axis evenly); permute ("rope_i2h" or "rope_h2i": rows of each head
from interleaved pairs to halves, or back). Everything that does not fit is reported at once.
"""

import re
from collections.abc import Iterable
from collections.abc import Mapping as Map
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gptlab.config.typecheck import conforms, describe_type, explain_unknown, format_value
from gptlab.errors import Refused

if TYPE_CHECKING:
    from torch import Tensor

Shapes = Map[str, tuple[int, ...]]
KEY_TYPES: dict[str, Any] = {
    "to": str | list[str],
    "split": dict[str, Any],
    "axis": int,
    "parts": int,
    "sizes": list[int],
    "transpose": bool | Literal["auto"],
    "heads": Literal["none", "per_head_interleaved"],
    "permute": Literal["none", "rope_i2h", "rope_h2i"],
    "squeeze": int | None,
}
"""Types of the keys of an entry and of its split."""
SPLIT_KEYS = ("axis", "parts", "sizes")
"""Those of its split."""
MAX_SHOWN = 6
"""Number of problems that are listed in full."""


@dataclass(frozen=True)
class Entry:
    """What becomes of one source tensor.

    source       its name, with {i} for the layer
    to           names of the target tensors
    axis         axis that is split
    sizes        sizes of the parts along `axis`; None: equal parts
    transpose    auto: where the target's shape is the transposed one
    interleaved  whether rows are q, k, v of the first head, then of the second
    permute      reorders the rows of each head for the other layout of rotary pairs
    squeeze      axis of length 1 to remove
    """

    source: str
    to: tuple[str, ...]
    axis: int = -1
    sizes: tuple[int, ...] | None = None
    transpose: bool | Literal["auto"] = False
    interleaved: bool = False
    permute: Literal["none", "rope_i2h", "rope_h2i"] = "none"
    squeeze: int | None = None


@dataclass(frozen=True)
class Mapping:
    """A whole keys_mapping.json.

    entries  one for each source tensor or pattern
    ignore   patterns of source tensors that have no target
    head     width of a head, which `heads` and `permute` need
    """

    entries: tuple[Entry, ...]
    ignore: tuple[str, ...] = ()
    head: int = 0


def parse_mapping(given: Map[str, Any], head: int = 0) -> Mapping:
    """Return the mapping that a keys_mapping.json describes; raise Refused where it is wrong."""
    entries = [_parse_entry(source, entry) for source, entry in given.items() if source != "ignore"]
    ignore = given.get("ignore", [])
    if not conforms(ignore, list[str]):
        raise Refused(f"keys_mapping: ignore={format_value(ignore)} is not a list of names")
    return Mapping(tuple(entries), tuple(ignore), head)


def _parse_entry(source: str, given: Any) -> Entry:
    if isinstance(given, str) or (conforms(given, list[str]) and given):
        return Entry(source, to=(given,) if isinstance(given, str) else tuple(given))
    if not isinstance(given, dict) or "to" not in given:
        raise Refused(f"keys_mapping: {source}: {given!r} is no target, list of targets, or object with `to`")
    split = given.get("split", {})
    if misplaced := [key for key in given if key in SPLIT_KEYS]:
        raise Refused(f'keys_mapping: {source}: {misplaced[0]} is of the split; say it there: "split": {{...}}')
    for key, value in [*given.items(), *(split.items() if isinstance(split, dict) else ())]:
        if key not in KEY_TYPES:
            raise Refused(f"keys_mapping: {source}: {explain_unknown(key, [*KEY_TYPES])}")
        if not conforms(value, KEY_TYPES[key]):
            raise Refused(
                f"keys_mapping: {source}: {key}={format_value(value)} is not {describe_type(KEY_TYPES[key], value)}"
            )
    to = (given["to"],) if isinstance(given["to"], str) else tuple(given["to"])
    # parts and sizes, each if it is given, must both be as many as the targets
    if split and {split.get("parts", len(to)), len(split.get("sizes", to))} != {len(to)}:
        raise Refused(f"keys_mapping: {source}: split={split} does not give {len(to)} parts, one for each target")
    return Entry(
        source=source,
        to=to,
        axis=split.get("axis", -1),
        sizes=tuple(split["sizes"]) if "sizes" in split else None,
        transpose=given.get("transpose", False),
        interleaved=given.get("heads", "none") == "per_head_interleaved",
        permute=given.get("permute", "none"),
        squeeze=given.get("squeeze"),
    )


def apply_mapping(mapping: Mapping, source: "Map[str, Tensor]", wanted: Shapes) -> "dict[str, Tensor]":
    """Return our tensors by name, each of the shape in `wanted`.

    Raises Refused, with all problems, where a tensor is missing, left over, written twice or of another shape.
    """
    tensors: dict[str, Tensor] = {}
    problems: list[str] = []
    for name, tensor in source.items():
        entry, index = _find_entry(mapping, name)
        # the first entry that fits wins, in the order of the file
        if entry is None:
            if not any(_match_pattern(pattern, name) is not None for pattern in mapping.ignore):
                # nothing is dropped silently: a tensor that was meant to be left out stands in `ignore`
                problems.append(f"{name} has no place")
            continue
        targets = [target.replace("{i}", index) for target in entry.to]
        try:
            parts = _split_tensor(entry, tensor, targets, wanted, head=mapping.head)
        except (ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:
            # what torch says of a shape that does not fit is one problem among the others
            problems.append(f"{name}: {str(error).splitlines()[0]}")
            continue
        for target, part in zip(targets, parts, strict=True):
            if target in tensors:
                problems.append(f"{target} is written twice")
            elif target not in wanted:
                problems.append(f"{name} -> {target}, which the decoder has not")
            elif tuple(part.shape) != tuple(wanted[target]):
                problems.append(f"{name} -> {target}: {tuple(part.shape)} is not {tuple(wanted[target])}")
            elif reason := describe_unusable(part):
                problems.append(f"{name} -> {target}: it {reason}")
            else:
                tensors[target] = part.contiguous()
    # a target of which something was said already is not said to be missing too
    reported = " ".join(problems)
    problems += [f"{name} is missing" for name in wanted if name not in tensors and f"{name}:" not in reported]
    refuse_misfits(problems)
    return tensors


def describe_unusable(tensor: "Tensor") -> str:
    """Return why a tensor cannot be weights, "" if it can; one on the meta device has no values to look at."""
    if tensor.is_meta:
        return ""
    if not tensor.is_floating_point():
        return f"is {str(tensor.dtype).removeprefix('torch.')} and no float; give weights that are not quantized"
    return "" if tensor.float().isfinite().all() else "holds NaN or inf"


def refuse_misfits(problems: list[str]) -> None:
    """Raise Refused with all problems in one line, if there are any."""
    if problems:
        more = f"; and {len(problems) - MAX_SHOWN} more" if len(problems) > MAX_SHOWN else ""
        raise Refused(f"pretrained: the checkpoint does not fit: {'; '.join(problems[:MAX_SHOWN])}{more}")


def match_entries(mapping: Mapping, names: Iterable[str]) -> dict[str, tuple[Entry, list[str]]]:
    """Return the entry of each source name that has one, and the targets of that name."""
    matched = {}
    for name in names:
        entry, index = _find_entry(mapping, name)
        if entry is not None:
            matched[name] = entry, [target.replace("{i}", index) for target in entry.to]
    return matched


def _find_entry(mapping: Mapping, name: str) -> tuple[Entry | None, str]:
    """Return the entry of a source name and the layer in that name; (None, "") if there is none."""
    for entry in mapping.entries:
        if (index := _match_pattern(entry.source, name)) is not None:
            return entry, index
    return None, ""


def _match_pattern(pattern: str, name: str) -> str | None:
    """Return the part of a name at {i}; "" where the pattern has no {i}; None if the name does not match."""
    # all but {i} and * is literal: names are full of dots
    match = re.fullmatch(re.escape(pattern).replace(r"\{i\}", r"(\d+)").replace(r"\*", ".*"), name)
    return None if match is None else (match.group(1) if match.groups() else "")


def _split_tensor(
    entry: Entry, tensor: "Tensor", targets: list[str], wanted: Shapes, head: int
) -> "tuple[Tensor, ...]":
    """Squeeze, transpose, split and permute a source tensor into one part for each target."""
    if entry.squeeze is not None:
        if tensor.shape[entry.squeeze] != 1:
            raise ValueError(f"axis {entry.squeeze} of {tuple(tensor.shape)} is not of length 1")
        tensor = tensor.squeeze(entry.squeeze)
    if _needs_transpose(entry, tensor, targets, wanted):
        tensor = tensor.t()
    axis = entry.axis % tensor.dim()
    if entry.interleaved:
        tensor, axis = _group_by_kind(tensor, head, len(targets)), 0
    if len(targets) == 1:
        return (_permute_rows(tensor, entry.permute, head),)
    if entry.sizes:
        parts = tensor.split(list(entry.sizes), axis)
    elif tensor.shape[axis] % len(targets):
        raise ValueError(f"axis {axis} of {tuple(tensor.shape)} does not split in {len(targets)}")
    else:
        parts = tensor.chunk(len(targets), axis)
    permuted = []
    for target, part in zip(targets, parts, strict=True):
        # values are not rotated, so their rows stand as they are in either layout
        permuted.append(part if _is_value(entry, target) else _permute_rows(part, entry.permute, head))
    return tuple(permuted)


def _is_value(entry: Entry, target: str) -> bool:
    """Return whether a target holds values that share a source with queries and keys, as rope rotates only those."""
    return len(entry.to) > 1 and ".v." in target


def _needs_transpose(entry: Entry, tensor: "Tensor", targets: list[str], wanted: Shapes) -> bool:
    """Return whether to transpose a tensor, as its entry says or, with auto, as the target's shape requires."""
    if entry.transpose != "auto":
        return entry.transpose and tensor.dim() == 2
    shape = wanted.get(targets[0])
    # a square target tells nothing: auto leaves it as it lies
    return tensor.dim() == 2 and len(targets) == 1 and shape is not None and tuple(tensor.shape) == shape[::-1] != shape


def _group_by_kind(tensor: "Tensor", head: int, kinds: int) -> "Tensor":
    """Reorder rows (heads, kinds, head) to (kinds, heads, head)."""
    return tensor.unflatten(0, (-1, kinds, head)).transpose(0, 1).flatten(0, 2)


def _permute_rows(tensor: "Tensor", permutation: str, head: int) -> "Tensor":
    """Reorder the rows of each head from interleaved pairs to halves (rope_i2h), or back (rope_h2i)."""
    if permutation == "none":
        return tensor
    # (x0, x1), (x2, x3), ... to all first halves, then all second ones
    pairs = (head // 2, 2) if permutation == "rope_i2h" else (2, head // 2)
    return tensor.unflatten(0, (-1, *pairs)).transpose(1, 2).flatten(0, 2)


def invert_mapping(mapping: Mapping, ours: "Map[str, Tensor]", layers: int) -> "dict[str, Tensor]":
    """Return our tensors under the source's names and in its layout: the inverse of `apply_mapping`."""
    import torch

    tensors: dict[str, Tensor] = {}
    for entry in mapping.entries:
        for index in map(str, range(layers)) if "{i}" in entry.source else [""]:
            targets = [target.replace("{i}", index) for target in entry.to]
            # what this decoder has not (a head that is tied, biases) its file had not either
            if any(target not in ours for target in targets):
                continue
            # the steps of _split_tensor from the last to the first
            inverse = {"none": "none", "rope_i2h": "rope_h2i", "rope_h2i": "rope_i2h"}[entry.permute]
            parts = []
            for target in targets:
                is_value = _is_value(entry, target)
                parts.append(ours[target] if is_value else _permute_rows(ours[target], inverse, mapping.head))
            # q, k and v, (kinds x heads x head, width), before heads are interleaved again
            tensor = torch.cat(parts, 0 if entry.interleaved or len(parts) == 1 else entry.axis)
            if entry.interleaved:
                tensor = tensor.unflatten(0, (len(parts), -1, mapping.head)).transpose(0, 1).flatten(0, 2)
            # auto is not undone: our tensor does not tell how the source lay
            if entry.transpose is True and tensor.dim() == 2:
                tensor = tensor.t()
            if entry.squeeze is not None:
                tensor = tensor.unsqueeze(entry.squeeze)
            tensors[entry.source.replace("{i}", index)] = tensor
    return tensors
