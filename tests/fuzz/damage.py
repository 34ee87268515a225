"""Damage for files: bytes, structured values and texts, each drawn from a seeded generator."""

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    *(None, [], {}, "", "x", "é", -1, 0, 1, 0.5, -2.5, 1e308, True, False),
    *(10**30, [[1]], {"a": 1}),
)
"""What stands where something else was meant."""
ODD_BYTES = (
    *(b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\r\n", b"{", b"\x1b[31m", b"\xed\xa0\x80"),
    "é\u2028".encode(),
)


def damage_bytes(random: Random, data: bytes) -> bytes:
    """Return `data` cut, torn, with odd bytes in it, or emptied."""
    at = random.randrange(len(data) + 1)
    kinds: list[Callable[[], bytes]] = [
        lambda: data[:at],
        lambda: data[at:],
        lambda: data[:at] + random.choice(ODD_BYTES) + data[at:],
        lambda: data[:at] + random.randbytes(4) + data[at + 4 :],
        lambda: random.choice(ODD_BYTES) + data,
        lambda: data + random.choice(ODD_BYTES),
        lambda: b"",
        lambda: random.randbytes(64),
    ]
    return random.choice(kinds)()


def damage_value(random: Random, value: Any) -> Any:
    """Return a copy of a structured value with one place deleted, renamed, doubled or replaced by something odd."""
    value = copy.deepcopy(value)
    places = [*list_places(value)]
    if not places:
        return random.choice(ODD_VALUES)
    node, key = random.choice(places)
    kind = random.choice(("delete", "replace", "replace", "rename", "text"))
    if kind == "delete":
        del node[key]
    elif kind == "rename" and isinstance(node, dict):
        node[f"{key}_"] = node.pop(key)
    elif kind == "text":
        node[key] = str(node[key])
    else:
        node[key] = copy.deepcopy(random.choice(ODD_VALUES))
    return value


def list_places(value: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of the places inside a structured value; of a long list the first few."""
    keys = [*value] if isinstance(value, dict) else [*range(min(len(value), 4))] if isinstance(value, list) else []
    below = [place for key in keys[:200] for place in list_places(value[key])]
    return [*((value, key) for key in keys), *below]


def damage_json(random: Random, value: Any) -> bytes:
    """Return JSON of a damaged value, or damaged JSON."""
    if random.random() < 0.7:
        for _ in range(random.randint(1, 2)):
            value = damage_value(random, value)
        return json.dumps(value).encode()
    return damage_bytes(random, json.dumps(value).encode())
