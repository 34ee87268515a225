"""What lies behind the paths of a config, by stamps: a run is of a text, and not of the name of a file.

A stamp is a sha256 of content, read once a process for each state of a file (path, size, time of change). That of a
large file is kept in the cache folder of the outputs, so that it is read once for all processes.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from gptlab.config.factory import list_knobs, locate
from gptlab.corpus.disk_cache import shelved

LARGE = 2**26
"""Bytes from which a file's stamp is kept on disk; to read so many takes about 0.1 s (2026-11)."""
SLOTS = ("data", "tokenizer")
"""Slots whose choices may read files."""


def stamp_content(config: dict[str, Any]) -> dict[str, str]:
    """Return a stamp for each slot whose path names files that can be read; what cannot be is refused when it is."""
    stamps = {}
    for slot in SLOTS:
        node = config.get(slot)
        if isinstance(node, dict) and node.get("path"):
            try:
                stamps[slot] = _stamp_node(node, slot, Path(config["outputs"]) / "cache")
            except (OSError, ValueError, TypeError, KeyError):  # Refused is a ValueError
                continue
    return {slot: stamp for slot, stamp in stamps.items() if stamp}


def _stamp_node(node: dict[str, Any], slot: str, cache_folder: Path) -> str:
    target: Any = locate(node["_target_"], slot)
    files = target.reads({key: node[key] for key in list_knobs(node)})
    if not files:
        return ""
    lines = []
    for file in files:
        at = file.stat()
        lines.append(
            _stamp_file(file.resolve(), at.st_size, at.st_mtime_ns, cache_folder.absolute()) + target.role(file)
        )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@cache
def _stamp_file(file: Path, size: int, changed: int, cache_folder: Path) -> str:
    def digest() -> str:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    if size < LARGE:
        return digest()

    def fill(folder: Path) -> None:
        (folder / "sha256").write_text(digest())

    key = hashlib.sha256(f"{file} {size} {changed}".encode(errors="surrogatepass")).hexdigest()[:16]
    return (shelved(cache_folder / f"stamp-{key}", fill) / "sha256").read_text()
