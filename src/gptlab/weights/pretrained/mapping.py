"""Their tensors to ours: keys_mapping.json, from source names to what becomes of each.

    {"h.{i}.attn.c_attn.weight": {"to": ["blocks.{i}.attention.q.weight", "...k.weight", "...v.weight"],
                                  "transpose": true, "split": {"axis": 0, "parts": 3}},
     "wte.weight": "embedding.weight", "ignore": ["h.{i}.attn.bias"]}

In this order: squeeze an axis of length 1; transpose (true, false, or "auto": where the target's shape wants it and
only then); heads ("per_head_interleaved": rows are q, k, v of the first head, then of the second); split what this has
become into the targets (a bare list splits the last axis evenly); permute ("rope_i2h" or "rope_h2i": rows of each head
from interleaved pairs to halves, or back). All that does not fit is told at once.
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
KEYS: dict[str, Any] = {
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
"""What an entry may say, in itself or in its split."""
SHOWN = 6
"""Complaints that are told in full."""


@dataclass(frozen=True)
class Entry:
    """What becomes of one source tensor. `sizes`: of the parts along `axis`, None for equal ones."""

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
    """All of a file. `head`: the width of a head, which `heads` and `permute` need."""

    entries: tuple[Entry, ...]
    ignore: tuple[str, ...] = ()
    head: int = 0


def parse(given: Map[str, Any], head: int = 0) -> Mapping:
    """keys_mapping.json as data."""
    entries = [_entry(source, one) for source, one in given.items() if source != "ignore"]
    ignore = given.get("ignore", [])
    if not conforms(ignore, list[str]):
        raise Refused(f"keys_mapping: ignore={format_value(ignore)} is not a list of names")
    return Mapping(tuple(entries), tuple(ignore), head)


def _entry(source: str, given: Any) -> Entry:
    if isinstance(given, str) or (conforms(given, list[str]) and given):
        return Entry(source, (given,) if isinstance(given, str) else tuple(given))
    if not isinstance(given, dict) or "to" not in given:
        raise Refused(f"keys_mapping: {source}: {given!r} is no target, list of targets, or object with `to`")
    split = given.get("split", {})
    for key, value in [*given.items(), *(split.items() if isinstance(split, dict) else ())]:
        if key not in KEYS:
            raise Refused(f"keys_mapping: {source}: {explain_unknown(key, [*KEYS])}")
        if not conforms(value, KEYS[key]):
            raise Refused(
                f"keys_mapping: {source}: {key}={format_value(value)} is not {describe_type(KEYS[key], value)}"
            )
    to = (given["to"],) if isinstance(given["to"], str) else tuple(given["to"])
    if split and {split.get("parts", len(to)), len(split.get("sizes", to))} != {len(to)}:
        raise Refused(f"keys_mapping: {source}: split={split} does not give {len(to)} parts, one for each target")
    return Entry(
        source,
        to,
        split.get("axis", -1),
        tuple(split["sizes"]) if "sizes" in split else None,
        given.get("transpose", False),
        given.get("heads", "none") == "per_head_interleaved",
        given.get("permute", "none"),
        given.get("squeeze"),
    )


def apply(mapping: Mapping, source: "Map[str, Tensor]", wanted: Shapes) -> "dict[str, Tensor]":
    """Our tensors by name, each of the shape wanted; refused, with all that is wrong, where one is missing, left over,
    written twice or of another shape."""
    made: dict[str, Tensor] = {}
    wrong: list[str] = []
    for name, tensor in source.items():
        entry, index = _match(mapping, name)
        if entry is None:
            if not any(_fits(one, name) is not None for one in mapping.ignore):
                wrong.append(f"{name} has no place")
            continue
        targets = [one.replace("{i}", index) for one in entry.to]
        try:
            parts = _parts(entry, tensor, targets, wanted, mapping.head)
        except (ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:
            wrong.append(f"{name}: {str(error).splitlines()[0]}")
            continue
        for target, part in zip(targets, parts, strict=True):
            if target in made:
                wrong.append(f"{target} is written twice")
            elif target not in wanted:
                wrong.append(f"{name} -> {target}, which the decoder has not")
            elif tuple(part.shape) != tuple(wanted[target]):
                wrong.append(f"{name} -> {target}: {tuple(part.shape)} is not {tuple(wanted[target])}")
            else:
                made[target] = part.contiguous()
    told = " ".join(wrong)
    wrong += [f"{name} is missing" for name in wanted if name not in made and f"{name}:" not in told]
    refuse(wrong)
    return made


def refuse(wrong: list[str]) -> None:
    """All complaints in one line."""
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise Refused(f"pretrained: the checkpoint does not fit: {'; '.join(wrong[:SHOWN])}{more}")


def places(mapping: Mapping, names: Iterable[str]) -> dict[str, tuple[Entry, list[str]]]:
    """The entry of each source name that has one, and the targets that it leads to."""
    matched = ((name, *_match(mapping, name)) for name in names)
    return {name: (entry, [one.replace("{i}", index) for one in entry.to]) for name, entry, index in matched if entry}


def _match(mapping: Mapping, name: str) -> tuple[Entry | None, str]:
    for entry in mapping.entries:
        if (index := _fits(entry.source, name)) is not None:
            return entry, index
    return None, ""


def _fits(pattern: str, name: str) -> str | None:
    """What stands for {i}; empty where there is none; None if the name is another."""
    found = re.fullmatch(re.escape(pattern).replace(r"\{i\}", r"(\d+)").replace(r"\*", ".*"), name)
    return None if found is None else (found.group(1) if found.groups() else "")


def _parts(entry: Entry, tensor: "Tensor", targets: list[str], wanted: Shapes, head: int) -> "tuple[Tensor, ...]":
    if entry.squeeze is not None:
        if tensor.shape[entry.squeeze] != 1:
            raise ValueError(f"axis {entry.squeeze} of {tuple(tensor.shape)} is not of length 1")
        tensor = tensor.squeeze(entry.squeeze)
    if _turned(entry, tensor, targets, wanted):
        tensor = tensor.t()
    axis = entry.axis % tensor.dim()
    if entry.interleaved:
        tensor, axis = _by_kind(tensor, head, len(targets)), 0
    if len(targets) == 1:
        return (_permuted(tensor, entry.permute, head),)
    if entry.sizes:
        parts = tensor.split(list(entry.sizes), axis)
    elif tensor.shape[axis] % len(targets):
        raise ValueError(f"axis {axis} of {tuple(tensor.shape)} does not split in {len(targets)}")
    else:
        parts = tensor.chunk(len(targets), axis)
    return tuple(
        part if _kept(entry, target) else _permuted(part, entry.permute, head)
        for target, part in zip(targets, parts, strict=True)
    )


def _kept(entry: Entry, target: str) -> bool:
    """True for values that share a source with queries and keys: rope turns only those."""
    return len(entry.to) > 1 and ".v." in target


def _turned(entry: Entry, tensor: "Tensor", targets: list[str], wanted: Shapes) -> bool:
    if entry.transpose != "auto":
        return entry.transpose and tensor.dim() == 2
    shape = wanted.get(targets[0])
    return tensor.dim() == 2 and len(targets) == 1 and shape is not None and tuple(tensor.shape) == shape[::-1] != shape


def _by_kind(tensor: "Tensor", head: int, kinds: int) -> "Tensor":
    """Rows (heads, kinds, head) to (kinds, heads, head)."""
    return tensor.unflatten(0, (-1, kinds, head)).transpose(0, 1).flatten(0, 2)


def _permuted(tensor: "Tensor", how: str, head: int) -> "Tensor":
    """Rows of each head from interleaved pairs to halves, or back."""
    if how == "none":
        return tensor
    pairs = (head // 2, 2) if how == "rope_i2h" else (2, head // 2)
    return tensor.unflatten(0, (-1, *pairs)).transpose(1, 2).flatten(0, 2)


def back(mapping: Mapping, ours: "Map[str, Tensor]", layers: int) -> "dict[str, Tensor]":
    """Our tensors under the source's names and in its layout: `apply` undone."""
    import torch

    made: dict[str, Tensor] = {}
    for entry in mapping.entries:
        for index in map(str, range(layers)) if "{i}" in entry.source else [""]:
            targets = [one.replace("{i}", index) for one in entry.to]
            if any(one not in ours for one in targets):
                continue
            undone = {"none": "none", "rope_i2h": "rope_h2i", "rope_h2i": "rope_i2h"}[entry.permute]
            parts = [ours[one] if _kept(entry, one) else _permuted(ours[one], undone, mapping.head) for one in targets]
            tensor = torch.cat(parts, 0 if entry.interleaved or len(parts) == 1 else entry.axis)
            if entry.interleaved:
                tensor = tensor.unflatten(0, (len(parts), -1, mapping.head)).transpose(0, 1).flatten(0, 2)
            tensor = tensor.t() if entry.transpose is True and tensor.dim() == 2 else tensor
            made[entry.source.replace("{i}", index)] = (
                tensor if entry.squeeze is None else tensor.unsqueeze(entry.squeeze)
            )
    return made
