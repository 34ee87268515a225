"""Files that hold nothing but tokens: memory-mapped, checked, and concatenated."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gptlab.console.progress import DelayedProgress, delayed_progress
from gptlab.corpus.disk_cache import cached_folder
from gptlab.errors import Refused

BLOCK = 2**22
"""Bytes read at once where all of a file is read."""
SAMPLE = 4096
"""Bytes at the start of a file that are checked for another format."""
HEADER_BYTES = 1024
"""Size of the header of llm.c's and modded-nanogpt's files: 256 int32, the first three magic, version and tokens."""
HEADERS = {20240520: (1, "uint16"), 20240801: (7, "uint32")}
"""Version and dtype of the tokens by magic number: those of GPT-2 and of Llama 3 (llm.c, dev/data/data_common.py)."""
WIDER_DTYPES = {"uint16": ("uint32", "int64"), "uint32": ("int64",), "int64": ()}
"""Wider dtypes of each dtype: a file of those reads as tokens with zeros between."""


class JoinedTokens:
    """Several arrays of tokens as one, without copying.

    Indexed by an array of positions, (...) to (...), or by a slice of start and stop.
    """

    def __init__(self, parts: list[np.ndarray]) -> None:
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])
        # headers may give files of one corpus dtypes of their own
        self.dtype = np.result_type(*parts)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: np.ndarray | slice) -> np.ndarray:
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            up_to_stop, _ = cut_tokens(self.parts, stop)
            _, from_start = cut_tokens(up_to_stop, start)
            return np.concatenate(from_start)
        tokens = np.empty(index.shape, self.dtype)
        # right: a position that is an end belongs to the next part
        part_numbers = np.searchsorted(self.ends, index, side="right")
        for number in np.unique(part_numbers):  # one gather a part
            in_part, part = part_numbers == number, self.parts[number]
            tokens[in_part] = part[index[in_part] - (self.ends[number] - len(part))]
        return tokens

    def take_windows(self, starts: np.ndarray, length: int) -> np.ndarray:
        """Return windows, (N, length), that begin at `starts`, (N,).

        Each is one slice of its file, where a gather looks up every token: 22 ms against 265 for 480 windows over 103
        files, pages cold (2026-11).
        """
        windows = np.empty((len(starts), length), self.dtype)
        part_numbers = np.searchsorted(self.ends, starts, side="right")
        for window, number, start in zip(windows, part_numbers, starts, strict=True):
            part = self.parts[number]
            in_part = int(start - (self.ends[number] - len(part)))
            inside = part[in_part : in_part + length]
            # a window over the end of a file goes on in the next ones
            window[:] = inside if len(inside) == length else self[int(start) : int(start) + length]
        return windows


Tokens = np.ndarray | JoinedTokens
"""Tokens, (N,), on disk or in memory."""


def take_windows(tokens: Tokens, starts: np.ndarray, length: int) -> np.ndarray:
    """Return windows of tokens, (N, length), that begin at `starts`, (N,)."""
    if isinstance(tokens, JoinedTokens):
        return tokens.take_windows(starts, length)
    return tokens[starts[:, None] + np.arange(length)]


def join_tokens(parts: list[np.ndarray]) -> Tokens:
    """Concatenate arrays of tokens without copying; a single one is returned as it is."""
    return parts[0] if len(parts) == 1 else JoinedTokens(parts)


def cut_tokens(parts: list[np.ndarray], position: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Split arrays, seen as one, into those before `position` and those from there on."""
    before, after = [], []
    for part in parts:
        before.append(part[:position])
        after.append(part[position:])
        position = max(position - len(part), 0)
    return before, after


def memory_map(file: Path, dtype: str, offset: int = 0) -> np.ndarray:
    """Return the tokens of a file, (N,), read-only, from a byte on; they are paged in from disk where they are used."""
    # asarray: memmap's own class makes each index a memmap, which is slow
    return np.asarray(np.memmap(file, np.dtype(dtype).newbyteorder("<"), "r", offset))


class Layout(NamedTuple):
    """Dtype of the tokens of a file, and the byte at which they begin."""

    dtype: str
    offset: int = 0


def inspect_token_file(file: Path, dtype: str) -> Layout:
    """Return how the tokens of a file lie in it, of `dtype` unless a header says what they are.

    Raises Refused if it cannot be read, is plainly of another format, or is not what its header says.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            head = stream.read(SAMPLE)
    except OSError as error:
        raise Refused(f"data.path: {file} cannot be read ({error.strerror}); give a file of tokens") from None
    if header_dtype := read_header(file, head, size):
        return Layout(header_dtype, HEADER_BYTES)
    width = np.dtype(dtype).itemsize
    # cheap checks first; the whole file is read by scan_files
    if not size or size % width:
        kind = "is empty" if not size else f"has {size} bytes, which is no multiple of {width}"
        raise Refused(f"data.path: {file} {kind}, so it holds no tokens of data.dtype={dtype}; make it anew")
    if kind := describe_foreign_content(head, dtype):
        raise Refused(f"data.path: {file} {kind}")
    return Layout(dtype)


def read_header(file: Path, head: bytes, size: int) -> str:
    """Return the dtype that the header of llm.c gives, "" where there is none; refuse one that is not kept."""
    if len(head) < HEADER_BYTES:
        return ""
    magic, version, count, *rest = np.frombuffer(head[:HEADER_BYTES], "<i4").tolist()
    if magic not in HEADERS:
        # tokens are not followed by a kilobyte of zeros; llm.c's files of questions (20240522) have a number more
        if magic and not any(rest[1:]):
            known = ", ".join(map(str, HEADERS))
            raise Refused(
                f"data.path: {file} has a header of 256 int32 with the magic number {magic}, none of {known}; "
                "give a file of tokens, or leave the header out: tail -c +1025 <file> > <another file>"
            )
        return ""
    wanted_version, dtype = HEADERS[magic]
    if version != wanted_version:
        raise Refused(
            f"data.path: {file} has the header of llm.c, magic number {magic}, in version {version}, and "
            f"{wanted_version} is known; write it anew in that one"
        )
    width = np.dtype(dtype).itemsize
    if count < 1 or size != HEADER_BYTES + count * width:
        raise Refused(
            f"data.path: {file} should hold {count} tokens of {dtype}, says its header, and has room for "
            f"{(size - HEADER_BYTES) / width:g}; get it anew"
        )
    return dtype


def describe_foreign_content(head: bytes, dtype: str) -> str:
    """Return the kind of a file whose first bytes are not tokens, and the remedy; "" if they may be tokens."""
    if head.startswith(b"\x93NUMPY"):
        return "is an array of numpy; write it with array.tofile(<file>), which leaves the header out"
    if len(head) >= 64 and min(head) >= 9 and not set(head) & set(range(14, 32)):  # no token pair is so tidy
        return "is a text; read it with data=text"
    if wider_dtype := find_wider_dtype(head, dtype):
        return (
            f"has zeros between the tokens of data.dtype={dtype}, so it holds {wider_dtype}; "
            f"take data.dtype={wider_dtype}"
        )
    if dtype == "uint16" and holds_single_bytes(head):
        return (
            "holds a byte for each token, which data.dtype=uint16 would read in pairs; widen it: "
            "numpy.fromfile(<file>, 'uint8').astype('uint16').tofile(<another file>)"
        )
    return ""


def holds_single_bytes(head: bytes) -> bool:
    """Return whether all bytes of `head` are below 128 and every second one is not 0, as no tokens of two bytes are.

    Of those the low byte takes all values where the high one is not 0.
    """
    return len(head) >= 512 and max(head) < 128 and sum(map(bool, head[1::2])) > len(head) // 4


def find_wider_dtype(head: bytes, dtype: str) -> str:
    """Return the widest dtype whose upper halves are all zero in `head`, or "" if the tokens fit `dtype`."""
    widest = ""
    for wider_dtype in WIDER_DTYPES[dtype]:
        width = np.dtype(wider_dtype).itemsize
        tokens = np.frombuffer(head[: len(head) // width * width], f"<u{width}")
        if len(tokens) >= 8 and tokens.any() and (tokens < 2 ** (4 * width)).all():
            widest = wider_dtype
    return widest


class Scan(NamedTuple):
    """Result of reading a whole file: its sha256, its largest token, and the position of that token."""

    sha256: str
    largest: int
    position: int


def scan_files(files: list[Path], layouts: list[Layout], cache_folder: Path) -> list[Scan]:
    """Return the scan of each file, whose tokens lie in it as `layouts` say.

    Each is read whole once, at the disk's speed; after that its path, size and modification time stand for its content.
    """
    size = sum(file.stat().st_size for file in files)
    scans = []
    with delayed_progress("reading the tokens", size) as progress:
        for file, layout in zip(files, layouts, strict=True):
            scans.append(_load_or_scan_file(file, layout, cache_folder, progress))
    return scans


def _load_or_scan_file(file: Path, layout: Layout, cache_folder: Path, progress: DelayedProgress) -> Scan:
    def fill(folder: Path) -> None:
        (folder / "scan.json").write_text(json.dumps(_scan_file(file, layout, progress)))

    stat = file.stat()
    identity = json.dumps([str(file.resolve()), stat.st_size, stat.st_mtime_ns, layout.dtype])
    folder = cached_folder(cache_folder / f"scan-{hashlib.sha256(identity.encode()).hexdigest()[:16]}", fill)
    return Scan(*json.loads((folder / "scan.json").read_text()))


def _scan_file(file: Path, layout: Layout, progress: DelayedProgress) -> Scan:
    sha, largest, position = hashlib.sha256(), -1, 0
    width = np.dtype(layout.dtype).itemsize
    with file.open("rb") as stream:
        sha.update(stream.read(layout.offset))
        tokens_before = 0
        while block := stream.read(BLOCK):
            sha.update(block)
            tokens = np.frombuffer(block, f"<u{width}")  # unsigned: less than 0 is then too large
            if (block_largest := int(tokens.max())) > largest:
                largest, position = block_largest, tokens_before + int(tokens.argmax())
            tokens_before += len(tokens)
            progress.advance(len(block))
    return Scan(sha.hexdigest(), largest, position)


def combine_hashes(scans: Iterable[Scan]) -> str:
    """Return one sha256 of several files in their order."""
    return hashlib.sha256("".join(scan.sha256 for scan in scans).encode()).hexdigest()
