"""Counts of what was streamed once: rows of the row groups of each file, tokens of each chunk.

One line of JSON each, appended to a file that all processes share. Counts follow from the content alone, so a line
that is written twice does no harm, and one that is torn or missing costs a second reading.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path

ChunkKey = tuple[int, int, int, int]
"""File, row group, first row, rows."""


class TokenLedger:
    """Counts of one source under one tokenizer; `path` is the file that keeps them."""

    def __init__(self, path: Path) -> None:
        self.path, self.is_kept = path, True
        self.groups: dict[int, list[int]] = {}
        self.tokens: dict[ChunkKey, int] = {}
        with suppress(OSError):  # none yet, or none that can be read: all is counted
            for line in path.read_text(errors="replace").splitlines():
                # a process that was killed, or a disk that was full, may have left half a line
                with suppress(ValueError, KeyError, TypeError):
                    self._take_line(json.loads(line))

    def _take_line(self, record: dict) -> None:
        if "groups" in record:
            self.groups[record["file"]] = record["groups"]
        else:
            file, group, start, rows = record["chunk"]
            self.tokens[file, group, start, rows] = record["tokens"]

    def record_groups(self, file: int, groups: list[int]) -> None:
        """Keep the rows of each row group of a file."""
        self.groups[file] = groups
        self._append({"file": file, "groups": groups})

    def record_tokens(self, chunk: ChunkKey, tokens: int) -> None:
        """Keep the tokens of a chunk."""
        if chunk not in self.tokens:
            self.tokens[chunk] = tokens
            self._append({"chunk": [*chunk], "tokens": tokens})

    def _append(self, record: dict) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                # a line break first: behind half a line, this one would be lost with it
                file.write(f"\n{json.dumps(record)}\n".encode())
        except OSError as error:
            # a full or read-only disk costs a second reading after a resume, not this run
            if self.is_kept:
                line = f"{self.path} cannot be written ({error.strerror}), so the counts of what is streamed are lost"
                print(f"{line}: this run goes on, and if it is resumed the text is counted anew", file=sys.stderr)
            self.is_kept = False
