"""Files of nothing but tokens, memory-mapped: opened, judged, and joined to one long row."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gptlab.console.progress import DelayedProgress, delayed_progress
from gptlab.corpus.disk_cache import shelved
from gptlab.errors import Refused

BLOCK = 2**22
"""Bytes read at once where all of a file is read."""
SAMPLE = 4096
"""Bytes that tell a file of another kind."""
LLMC = {20240520: "uint16", 20240801: "uint32"}
"""The first number in the header of llm.c's and modded-nanogpt's files, and the dtype of the tokens after it."""
WIDE = {"uint16": ("uint32", "int64"), "uint32": ("int64",), "int64": ()}
"""For each dtype the wider ones: a file of those reads as tokens with zeros between."""


class Joined:
    """Several rows of tokens as one; indexed by positions, (...) to (...), or by start and stop."""

    def __init__(self, parts: list[np.ndarray]) -> None:
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, at: np.ndarray | slice) -> np.ndarray:
        if isinstance(at, slice):
            start, stop, _ = at.indices(len(self))
            return np.concatenate(cut(cut(self.parts, stop)[0], start)[1])
        found = np.empty(at.shape, self.parts[0].dtype)
        which = np.searchsorted(self.ends, at, side="right")
        for number in np.unique(which):
            here, part = which == number, self.parts[number]
            found[here] = part[at[here] - (self.ends[number] - len(part))]
        return found


Tokens = np.ndarray | Joined
"""A row of tokens, of any length, on disk or in memory."""


def joined(parts: list[np.ndarray]) -> Tokens:
    """Several rows as one; one stays as it is."""
    return parts[0] if len(parts) == 1 else Joined(parts)


def cut(parts: list[np.ndarray], at: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rows up to a position of all, and from there on."""
    first, rest = [], []
    for part in parts:
        first.append(part[:at])
        rest.append(part[at:])
        at = max(at - len(part), 0)
    return first, rest


def mapped(file: Path, dtype: str) -> np.ndarray:
    """The tokens of a file, read-only, in no memory of their own."""
    return np.asarray(np.memmap(file, np.dtype(dtype).newbyteorder("<"), "r"))


def opened(file: Path, dtype: str) -> np.ndarray:
    """The tokens of a file; raises Refused if it cannot be read or is plainly something else."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            head = stream.read(SAMPLE)
    except OSError as error:
        raise Refused(f"data.path: {file} cannot be read ({error.strerror}); give a file of tokens") from None
    width = np.dtype(dtype).itemsize
    if not size or size % width:
        kind = "is empty" if not size else f"has {size} bytes, which is no multiple of {width}"
        raise Refused(f"data.path: {file} {kind}, so it holds no tokens of data.dtype={dtype}; make it anew")
    if kind := foreign(head, dtype):
        raise Refused(f"data.path: {file} {kind}")
    return mapped(file, dtype)


def foreign(head: bytes, dtype: str) -> str:
    """What the first bytes of a file are if not tokens, and the remedy; nothing if they may be."""
    if head.startswith(b"\x93NUMPY"):
        return "is an array of numpy; write it with array.tofile(<file>), which leaves the header out"
    if len(head) >= 64 and min(head) >= 9 and not set(head) & set(range(14, 32)):  # no token pair is so tidy
        return "is a text; read it with data=text"
    first = np.frombuffer(head[: len(head) // 4 * 4], "<u4")
    if len(first) and (inside := LLMC.get(int(first[0]))):
        return (
            "has the header of llm.c; leave it out: tail -c +1025 <file> > <another file>, and read that with "
            f"data.dtype={inside}"
        )
    if wide := find_wider_dtype(head, dtype):
        return f"has zeros between the tokens of data.dtype={dtype}, so it holds {wide}; take data.dtype={wide}"
    return ""


def find_wider_dtype(head: bytes, dtype: str) -> str:
    """Return the widest dtype whose upper halves are all zero in `head`, or "" if the tokens fit `dtype`."""
    found = ""
    for wide in WIDE[dtype]:
        width = np.dtype(wide).itemsize
        tokens = np.frombuffer(head[: len(head) // width * width], f"<u{width}")
        if len(tokens) >= 8 and tokens.any() and (tokens < 2 ** (4 * width)).all():
            found = wide
    return found


class Scan(NamedTuple):
    """What reading all of a file says."""

    sha256: str
    largest: int
    at: int


def scanned(files: list[Path], dtype: str, cache: Path) -> list[Scan]:
    """The scans of files. Each is read whole once, at the disk's speed; after that its path, size and time of change
    stand for its content."""
    with delayed_progress("reading the tokens", sum(file.stat().st_size for file in files)) as shown:
        return [_scan_of(file, dtype, cache, shown) for file in files]


def _scan_of(file: Path, dtype: str, cache: Path, shown: DelayedProgress) -> Scan:
    def fill(folder: Path) -> None:
        (folder / "scan.json").write_text(json.dumps(_scan(file, dtype, shown)))

    there = file.stat()
    named = json.dumps([str(file.resolve()), there.st_size, there.st_mtime_ns, dtype])
    folder = shelved(cache / f"scan-{hashlib.sha256(named.encode()).hexdigest()[:16]}", fill)
    return Scan(*json.loads((folder / "scan.json").read_text()))


def _scan(file: Path, dtype: str, shown: DelayedProgress) -> Scan:
    sha, largest, at = hashlib.sha256(), -1, 0
    with file.open("rb") as stream:
        for start, block in enumerate(iter(lambda: stream.read(BLOCK), b"")):
            sha.update(block)
            tokens = np.frombuffer(block, f"<u{np.dtype(dtype).itemsize}")  # unsigned: less than 0 is then too large
            if (here := int(tokens.max())) > largest:
                largest, at = here, start * BLOCK // tokens.itemsize + int(tokens.argmax())
            shown.advance(len(block))
    return Scan(sha.hexdigest(), largest, at)


def total(scans: Iterable[Scan]) -> str:
    """One sha256 of several files in their order."""
    return hashlib.sha256("".join(scan.sha256 for scan in scans).encode()).hexdigest()
