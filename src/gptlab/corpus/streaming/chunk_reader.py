"""Chunks of rows of Parquet files, read in turn and tokenised; of a file no more is fetched than footer and pages."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from threading import RLock
from typing import Any, NamedTuple

import numpy as np

from gptlab.corpus.parquet import ParquetSource, check_column, import_extra, read_column, refuse_damaged_parquet
from gptlab.corpus.streaming.token_ledger import TokenLedger
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.errors import Refused

ROWS = 1024
"""Most rows of a chunk. The hub writes row groups of about as many; other writers make a million."""
BUFFER_BYTES = 2**20
"""Bytes of a column that are fetched and decompressed at once; 0 would hold a whole row group."""
SEPARATOR = "\n\n"
"""Text after each document, as between those of data=huggingface."""


class Chunk(NamedTuple):
    """Rows of one row group of one file, by numbers."""

    file: int
    group: int
    start: int
    rows: int


class Border(NamedTuple):
    """The first row that is learnt from; those before are the validation split."""

    file: int
    group: int
    row: int


BEGINNING = Border(0, 0, 0)
"""The border before which nothing is."""


class ChunkReader:
    """Reads chunks, for several threads; those that follow each other in a row group are decoded once.

    path  of the data set, for refusals
    """

    def __init__(
        self, source: ParquetSource, path: str, column: str, tokenizer: Tokenizer, ledger: TokenLedger
    ) -> None:
        self.source, self.path, self.column = source, path, column
        self.tokenizer, self.ledger = tokenizer, ledger
        self._lock = RLock()
        self._file: tuple[int, Any] | None = None
        # what follows the chunk that was read last: its place, and its rows
        self._rest: tuple[tuple[int, int, int], Iterator[str | None]] | None = None

    def list_chunks(self, file: int, border: Border = BEGINNING) -> list[list[Chunk]]:
        """Return the chunks of each row group of a file from the border on."""
        chunks = []
        for group, rows in enumerate(self._count_rows(file)):
            # of the border's own row group only what comes after the border
            first = border.row if (file, group) == border[:2] else 0
            starts = () if (file, group) < border[:2] else range(first, rows, ROWS)
            chunks.append([Chunk(file, group, start, min(ROWS, rows - start)) for start in starts])
        return chunks

    def read_texts(self, chunk: Chunk) -> list[str | None]:
        """Return the values of a chunk's rows."""
        place = (chunk.file, chunk.group, chunk.start)
        with self._lock, self._refuse_failures(chunk.file):
            # rows cannot be sought: another place than the next one decodes its row group from the start
            if self._rest is None or self._rest[0] != place:
                batches = read_column(self._open(chunk.file), self.column, [chunk.group])
                rows = chain.from_iterable(batches)
                next(islice(rows, chunk.start, chunk.start), None)
                self._rest = (place, rows)
            rows = self._rest[1]
            texts = list(islice(rows, chunk.rows))
            self._rest = ((chunk.file, chunk.group, chunk.start + chunk.rows), rows)
        return texts

    def read_tokens(self, chunk: Chunk) -> np.ndarray:
        """Return the tokens of a chunk's documents, each with a blank line behind it, (N,)."""
        text = "".join(text + SEPARATOR for text in self.read_texts(chunk) if text is not None)
        tokens = self.tokenizer.encode(text)
        # so that a resumed run finds its place without tokenising all that came before
        self.ledger.record_tokens(chunk, len(tokens))
        return tokens

    def read_first_texts(self, count: int) -> tuple[list[str], Border]:
        """Return the first documents, and the row after them; raise Refused if there are no more than these."""
        texts: list[str] = []
        for file in range(len(self.source.names)):
            for chunk in chain.from_iterable(self.list_chunks(file)):
                for row, text in enumerate(self.read_texts(chunk)):
                    if len(texts) == count:
                        return texts, Border(chunk.file, chunk.group, chunk.start + row)
                    if text is not None:
                        texts.append(text)
        raise Refused(
            f"data.validation_documents={count} leaves nothing to learn from: data.path={self.path} has {len(texts)} "
            f"documents; try data.validation_documents={max(1, len(texts) // 10)}"
        )

    def _count_rows(self, file: int) -> list[int]:
        """Return the rows of each row group of a file."""
        if file not in self.ledger.groups:
            with self._lock, self._refuse_failures(file):
                metadata = self._open(file).metadata
                rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            self.ledger.record_groups(file, rows)
        return self.ledger.groups[file]

    def _open(self, file: int) -> Any:
        """Return a file, whose footer is read; only the last one is held open."""
        if self._file is None or self._file[0] != file:
            if self._file is not None:
                # even files that it did not open itself, as those of the hub
                self._file[1].close(force=True)
                self._file = self._rest = None
            parquet = import_extra("pyarrow.parquet")
            name = self.source.names[file]
            parquet_file = parquet.ParquetFile(self.source.open(name), buffer_size=BUFFER_BYTES, pre_buffer=False)
            check_column(parquet_file.schema_arrow, self.column, name)
            self._file = (file, parquet_file)
        return self._file[1]

    @contextmanager
    def _refuse_failures(self, file: int) -> Iterator[None]:
        """Turn what goes wrong in reading a file into Refused."""
        name = self.source.names[file]
        try:
            with refuse_damaged_parquet(self.path, name):
                yield
        except Refused:
            raise
        except Exception as error:  # of the system, of the hub's library, or of whichever HTTP library it uses
            reason = str(error).partition("\n")[0]
            raise Refused(
                f"data.path={self.path}: {name} cannot be read ({type(error).__name__}: {reason}); a run that had "
                "begun goes on by resume=auto"
            ) from error
