"""Documents in Parquet: local files, or a data set of the Hugging Face Hub such as roneneldan/TinyStories.

They become one text with a blank line between two, whatever the tokenizer: bits per byte of all tokenizers are then of
the same bytes. From the hub come the Parquet files that it makes of every data set (its branch refs/convert/parquet);
they are kept in its own cache, which serves without a network.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from gptlab.corpus.data import Data, files, told
from gptlab.errors import Refused

WANTED = "a .parquet file, a folder of them, a glob, or owner/name of a data set"
HUB = re.compile(r"[\w.-]+/[\w.-]+(?:/[\w.-]+)?", re.ASCII)
BETWEEN = "\n\n"
BATCH = 1024
"""Documents held at once."""


class HuggingFace(Data):
    """path: files, or owner/name or owner/name/configuration; split: of a data set of the hub, train if null."""

    def __init__(
        self,
        *,
        path: str | None = None,
        column: str = "text",
        split: str | None = None,
        validation: float = 0.1,
    ) -> None:
        super().__init__(validation=validation)
        if not path:
            raise Refused(f"path={path} names nothing to read; data=huggingface needs data.path=<{WANTED}>")
        self.path, self.column, self.split = path, column, split

    @classmethod
    def reads(cls, knobs: dict[str, Any]) -> list[Path]:
        return files(knobs["path"], WANTED, ".parquet")

    def text(self) -> str:
        return "".join(self.chunks())

    def chunks(self) -> Iterator[str]:
        start = ""
        for file in self.found:
            for documents in self.batches(file):
                yield start + BETWEEN.join(documents)
                start = BETWEEN
        if not start:
            raise Refused(f"data.path={self.path} has no document; give {WANTED}")

    @cached_property
    def found(self) -> list[Path]:
        """The Parquet files, fetched first if they are the hub's: once, though a text may be read several times."""
        try:
            local = files(self.path, WANTED, ".parquet")
        except Refused:
            if not HUB.fullmatch(self.path) or self.path.endswith(".parquet"):
                raise
            return fetched(self.path, self.split or "train")
        if self.split is not None:
            raise Refused(
                f"data.split={self.split} is for data sets of the hub, and data.path={self.path} is local; "
                "say data.split=null, and give the files of that split"
            )
        return local

    def batches(self, file: Path) -> Iterator[list[str]]:
        """The documents of a file, so many at a time."""
        arrow, parquet = needed("pyarrow"), needed("pyarrow.parquet")
        with told(file, WANTED):
            try:
                opened = parquet.ParquetFile(file)
                self.check_column(opened.schema_arrow, file)
                for batch in opened.iter_batches(BATCH, columns=[self.column]):
                    documents = batch.column(0).to_pylist()
                    if None in documents:
                        raise Refused(
                            f"data.column={self.column} of {file} has a row without a text; leave such rows out"
                        )
                    yield documents
            except arrow.ArrowException as error:
                reason = str(error).splitlines()[0]
                raise Refused(f"data.path={self.path}: {file} is not whole Parquet ({reason}); get it anew") from None

    def check_column(self, schema: Any, file: Path) -> None:
        """Refuses a column that is not there or holds no texts."""
        kinds = {field.name: str(field.type) for field in schema}
        texts = [name for name, kind in kinds.items() if kind in ("string", "large_string", "string_view")]
        if self.column not in texts:
            has = f"holds {kinds[self.column]}, no text" if self.column in kinds else "is not there"
            there = f"choose from {', '.join(texts)}" if texts else "it has no column of texts"
            raise Refused(f"data.column={self.column} {has} in {file}; {there}")


def needed(module: str) -> Any:
    """A module of the extra `huggingface`; raises Refused where it is not installed."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        raise Refused(
            f"data=huggingface needs the package {module.split('.')[0]}; run: pip install 'gptlab[huggingface]'"
        ) from None


def fetched(path: str, split: str) -> list[Path]:
    """The files of a data set's split, from the hub's cache or the hub."""
    hub = needed("huggingface_hub")
    owner, name, *configuration = path.split("/")
    wanted = f"{configuration[0] if configuration else 'default'}/{split}/*.parquet"
    place: dict[str, str] = {"repo_type": "dataset", "revision": "refs/convert/parquet"}
    try:
        folder = Path(hub.snapshot_download(f"{owner}/{name}", allow_patterns=wanted, **place))
        if found := sorted(folder.glob(wanted)):
            return found
        there = {one.rpartition("/")[0] for one in hub.list_repo_files(f"{owner}/{name}", **place) if "/" in one}
    except Exception as error:  # of the hub's library, or of whichever HTTP library it uses
        raise Refused(
            f"data.path={path} is no file here, and the hub cannot give it ({type(error).__name__}); "
            "check the name and the network, or download its Parquet files elsewhere and give their folder"
        ) from None
    known = ", ".join(sorted(there)[:12])
    raise Refused(
        f"data.path={path} has no {wanted.rpartition('/')[0]} on the hub; it has {known or 'no Parquet at all'}"
    )
