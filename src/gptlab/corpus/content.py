"""Stamps of the content behind the paths of a config, so that a run depends on a text and not on a file's name.

A stamp is a sha256 of content, read once a process for each state of a file (path, size, modification time). That of a
large file is kept in the cache folder of the outputs, so that it is read once for all processes.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from gptlab.config.factory import list_knobs, locate
from gptlab.config.typecheck import format_value
from gptlab.corpus.disk_cache import cached_folder
from gptlab.errors import Refused

LARGE = 2**26
"""Bytes from which a file's stamp is kept on disk; reading so many takes about 0.1 s (2026-11)."""
SLOTS = ("data", "tokenizer")
"""Slots whose choices may read files."""


class FileReader:
    """Contract of data sets and tokenizers for the files behind their path. The base class reads none."""

    @classmethod
    def list_files(cls, knobs: dict[str, Any]) -> list[Path]:
        """Return the files behind these knobs' path, in order; their content decides the tokens."""
        return []

    @classmethod
    def describe_role(cls, file: Path) -> str:
        """Return the role that a file has by its name, such as " judged"; "" for none."""
        return ""


def stamp_content(config: dict[str, Any]) -> dict[str, str]:
    """Return a stamp for each slot whose path names readable files.

    Those that are not are refused when they are read.
    """
    stamps = {}
    for slot in SLOTS:
        node = config.get(slot)
        if isinstance(node, dict) and node.get("path"):
            try:
                stamps[slot] = _stamp_node(node, slot, Path(config["outputs"]) / "cache")
            # no stamp, no refusal: the knob may be of a wrong type, which its own check says better
            except (OSError, ValueError, TypeError, KeyError):  # Refused is a ValueError
                continue
    stamps |= _stamp_task_files(config)
    return {slot: stamp for slot, stamp in stamps.items() if stamp}


def refuse_changed_content(config: dict[str, Any], prefixes: tuple[str, ...]) -> None:
    """Refuse files that are not what they were when the config was stamped; `prefixes`: of the stamps to compare.

    Hours may lie between: those of a queue, of the other cells of a study, or since a run was stopped.
    """
    planned, stamps = config.get("content") or {}, stamp_content(config)
    for slot, stamp in planned.items():
        if slot.startswith(prefixes) and stamps.get(slot) != stamp:
            node = config["metric"][slot.partition(".")[2]] if slot.startswith("metric.") else config[slot]
            path = node["path"] if isinstance(node["path"], str) else format_value(node["path"])
            raise Refused(
                f"{slot}.path={path} is not what it was when this run was planned; put it back, say where a file "
                f"of that content and name is now, or give the whole command again for a run of what is there"
            )


def _stamp_task_files(config: dict[str, Any]) -> dict[str, str]:
    """Return a stamp for each metric whose path names readable files, metric.<name>: of their content and names.

    Metrics need not be imported for it, which takes a second: their paths are files, whose names name tasks.
    """
    stamps = {}
    for name, node in (config.get("metric") or {}).items():
        path = node.get("path") if isinstance(node, dict) else None
        files = [Path(item).expanduser() for item in ([path] if isinstance(path, str) else path or ())]
        try:
            lines = [f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]
        except (OSError, ValueError, TypeError):
            continue
        if lines:
            stamps[f"metric.{name}"] = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    return stamps


def _stamp_node(node: dict[str, Any], slot: str, cache_folder: Path) -> str:
    """Return the stamp of a slot's files, with what their names decide; "" where it reads none."""
    target: Any = locate(node["_target_"], slot)
    files = target.list_files({key: node[key] for key in list_knobs(node)})
    # a file that is renamed from train to val is the same bytes and another run
    return stamp_files(files, cache_folder, target.describe_role)


def stamp_files(files: list[Path], cache_folder: Path, describe_role: Callable[[Path], str] = lambda _: "") -> str:
    """Return one stamp of files in their order, each with what its name decides; "" for none."""
    if not files:
        return ""
    lines = [hash_file(file, cache_folder) + describe_role(file) for file in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def hash_file(file: Path, cache_folder: Path) -> str:
    """Return the sha256 of a file, read once for each state of it."""
    stat = file.stat()
    return _hash_state(file.resolve(), stat.st_size, stat.st_mtime_ns, cache_folder.absolute())


@cache
def _hash_state(file: Path, size: int, mtime_ns: int, cache_folder: Path) -> str:
    """Return the sha256 of a file; `size` and `mtime_ns` are part of the cache's key."""

    def read_hash() -> str:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    if size < LARGE:
        return read_hash()

    def fill(folder: Path) -> None:
        (folder / "sha256").write_text(read_hash())

    # surrogatepass: file names may hold bytes that are no UTF-8
    key = hashlib.sha256(f"{file} {size} {mtime_ns}".encode(errors="surrogatepass")).hexdigest()[:16]
    return (cached_folder(cache_folder / f"stamp-{key}", fill) / "sha256").read_text()
