"""Documents in Parquet or JSON lines: local files, or a data set of the Hugging Face Hub as roneneldan/TinyStories.

They become one text with a blank line between two, whatever the tokenizer, so that bits per byte of all tokenizers
refer to the same bytes; which of them begin a document is known. nanochat's shards are such Parquet. From the hub come
the Parquet files that it makes of every data set (its branch refs/convert/parquet), at a commit that is to be given, so
that a config says what it learns from; they are kept in the hub's own cache, which works without a network.
"""

import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from gptlab.config.typecheck import show_value
from gptlab.corpus.data import Data, find_files, refuse_read_errors
from gptlab.corpus.hub import CONVERTED, refuse_local_revision, refuse_moving_revision
from gptlab.corpus.parquet import BATCH, check_column, import_extra, read_column, refuse_damaged_parquet
from gptlab.errors import Refused, escape_controls

if TYPE_CHECKING:
    from gptlab.corpus.documents import TextDocuments

EXPECTED = "a .parquet or .jsonl file, a folder of them, a glob, or owner/name of a data set"
SUFFIXES = (".parquet", ".jsonl", ".ndjson")
"""Names of the files of a folder that are read."""
LINES = (".jsonl", ".ndjson", ".json")
"""Names of files of JSON lines; all others are read as Parquet."""
PARQUET_START = b"PAR1"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(?:/[\w.-]+)?", re.ASCII)
HALF_PAIR = re.compile("[\ud800-\udfff]")
"""A surrogate, which is a character only beside another."""
SEPARATOR = "\n\n"
"""Text between two documents."""


def is_hub_name(path: str) -> bool:
    """Return whether a path that leads to no file may be a data set of the hub."""
    return HUB_NAME.fullmatch(path) is not None and not path.endswith(SUFFIXES)


class HuggingFace(Data):
    """Text column of Parquet files, or of objects that stand a line each.

    path    local files, or owner/name or owner/name/configuration of the hub
    column  the column that holds the text
    split   split of a data set of the hub; null: train
    revision        commit of a data set of the hub, 40 hexadecimal digits; null: the path is local
    documents       row makes their borders known; null is not asked
    mask_documents  read each as if it were alone: no attention, no state and no position reaches across its border
    packing         rows of training: stream takes windows of the running text, best_fit whole documents
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        column: str = "text",
        split: str | None = None,
        revision: str | None = None,
        documents: Literal["row"] | None = None,
        mask_documents: bool = False,
        packing: Literal["stream", "best_fit"] = "stream",
        validation: float = 0.1,
    ) -> None:
        super().__init__(validation=validation)
        if not path:
            raise Refused(
                f"path={show_value(path)} names nothing to read; data=huggingface needs data.path=<{EXPECTED}>"
            )
        refuse_moving_revision(revision)
        self.path, self.column, self.split, self.revision = path, column, split, revision
        self.set_document_options(documents is not None, mask_documents, packing)

    @classmethod
    def list_files(cls, knobs: dict[str, Any]) -> list[Path]:
        """Return the local files; none for a name of the hub."""
        try:
            return find_files(knobs["path"], EXPECTED, SUFFIXES)
        except Refused:
            if not is_hub_name(knobs["path"]):
                raise
            return []

    def text(self) -> str:
        return "".join(self.chunks())

    def chunks(self) -> Iterator[str]:
        # before each document but the first, so that the text does not end with one
        separator = ""
        for file in self.files:
            for documents in self.read_batches(file):
                yield separator + SEPARATOR.join(documents)
                separator = SEPARATOR
        if not separator:
            raise Refused(f"data.path={self.path} has no document; give {EXPECTED}")

    def find_documents(self) -> "TextDocuments":
        import numpy as np

        from gptlab.corpus.documents import TextDocuments, name_sources

        starts, sources, size = [], [], 0
        for file in self.files:
            sources.append((str(file), size))
            for documents in self.read_batches(file):
                for document in documents:
                    starts.append(size)
                    size += len(document.encode()) + len(SEPARATOR)
        size -= len(SEPARATOR)  # none after the last
        places = np.array(starts, np.int64)
        return TextDocuments(places[places < size], size, name_sources(sources))

    @cached_property
    def files(self) -> list[Path]:
        """The files, fetched first if they are the hub's; cached, since a text may be read several times."""
        try:
            local = find_files(self.path, EXPECTED, SUFFIXES)
        except Refused:
            if not is_hub_name(self.path):
                raise
            return fetch_from_hub(self.path, self.split or "train", self.revision)
        refuse_local_revision(self.path, self.revision)
        if self.split is not None:
            raise Refused(
                f"data.split={self.split} is for data sets of the hub, and data.path={self.path} is local; "
                "say data.split=null, and give the files of that split"
            )
        return local

    def read_batches(self, file: Path) -> Iterator[list[str]]:
        """Yield the documents of a file, at most `BATCH` at a time."""
        if file.suffix.lower() not in LINES:
            yield from self.read_parquet(file)
            return
        documents: list[str] = []
        for document in self.read_lines(file):
            documents.append(document)
            if len(documents) == BATCH:
                yield documents
                documents = []
        if documents:
            yield documents

    def read_lines(self, file: Path) -> Iterator[str]:
        """Yield the documents of a file of JSON lines."""
        with refuse_read_errors(file, EXPECTED), file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:  # no JSON, or no UTF-8
                    raise Refused(f"data.path: line {number} of {file} is no JSON ({error}); mend it") from None
                fields = row if isinstance(row, dict) else {}
                if not isinstance(fields.get(self.column), str):
                    names = ", ".join(name for name, value in fields.items() if isinstance(value, str))
                    remedy = f"choose from {names}" if names else "it has no texts"
                    raise Refused(f"data.column={self.column} is no text in line {number} of {file}; {remedy}")
                if half := HALF_PAIR.search(fields[self.column]):
                    # JSON can say such a half, and UTF-8 has no bytes for it
                    raise Refused(
                        f"data.path: line {number} of {file} holds {escape_controls(half[0])}, half of a character; "
                        "write that text anew as UTF-8"
                    )
                yield fields[self.column]

    def read_parquet(self, file: Path) -> Iterator[list[str]]:
        """Yield the documents of a Parquet file, at most `BATCH` at a time."""
        with refuse_read_errors(file, EXPECTED), file.open("rb") as stream:
            # before the package that reads it is asked for: it would not help
            if stream.read(len(PARQUET_START)) != PARQUET_START:
                raise Refused(f"data.path={self.path}: {file} is no Parquet and not named .jsonl; give {EXPECTED}")
        parquet = import_extra("pyarrow.parquet")
        with refuse_read_errors(file, EXPECTED), refuse_damaged_parquet(self.path, str(file)):
            parquet_file = parquet.ParquetFile(file)
            check_column(parquet_file.schema_arrow, self.column, str(file))
            for documents in read_column(parquet_file, self.column):
                # a row without text is a hole in the text: said, not skipped
                if None in documents:
                    raise Refused(f"data.column={self.column} of {file} has a row without a text; leave such rows out")
                yield cast("list[str]", documents)


def fetch_from_hub(path: str, split: str, revision: str | None) -> list[Path]:
    """Return the files of a data set's split at a commit, from the hub's cache or the hub."""
    hub = import_extra("huggingface_hub")
    # the converted branch holds <configuration>/<split>/0000.parquet
    owner, name, *configuration = path.split("/")
    pattern = f"{configuration[0] if configuration else 'default'}/{split}/*.parquet"
    try:
        if revision is None:
            raise Refused(suggest_revision(hub, f"{owner}/{name}"))
        repo_options = {"repo_type": "dataset", "revision": revision}
        # the cache first: it needs no network, and a data set may be gone from the hub
        folder = Path(hub.snapshot_download(f"{owner}/{name}", allow_patterns=pattern, **repo_options))
        if paths := sorted(folder.glob(pattern)):
            return paths
        files = hub.HfApi().list_repo_files(f"{owner}/{name}", **repo_options)
        folders = {file.rpartition("/")[0] for file in files if file.endswith(".parquet")}
    except Refused:
        raise
    except Exception as error:  # of the hub's library, or of whichever HTTP library it uses
        raise Refused(
            f"data.path={path} is no file here, and the hub cannot give it ({type(error).__name__}); check the name, "
            "data.revision and the network, or download its Parquet files elsewhere and give their folder"
        ) from None
    known = ", ".join(sorted(folders)[:12])
    raise Refused(
        f"data.path={path} has no {pattern.rpartition('/')[0]} on the hub at that revision; it has "
        f"{known or 'no Parquet at all'}"
    )


def suggest_revision(hub: Any, repository: str) -> str:
    """Return a refusal that says which commit of the converted files the hub has by now, or its cache where it is away.

    hub  the package huggingface_hub
    """
    try:
        commit, where = hub.HfApi().dataset_info(repository, revision=CONVERTED).sha, "today's"
    except Exception as error:  # no network, no such data set
        options = {"repo_type": "dataset", "revision": CONVERTED, "local_files_only": True}
        try:
            commit, where = Path(hub.snapshot_download(repository, **options)).name, "that of the files fetched before"
        except Exception:
            raise error from None
    return f"data.revision=null is whatever the hub has by then; say data.revision={commit}, which is {where}"
