"""A table of the keys of one kind of object in comparison.json."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class KeyTable:
    """One kind of object in comparison.json.

    title    heading of its table
    kind     dataclass that is written
    keys     meaning by key, in the order of the page
    added    keys that the file has beside the fields of `kind`
    dropped  fields of `kind` that the file does not have
    """

    title: str
    kind: type[Any]
    keys: dict[str, str]
    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
