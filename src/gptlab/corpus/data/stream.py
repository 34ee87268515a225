"""Documents of Parquet that are read as training needs them, here or on the Hugging Face Hub; nothing is kept on disk.

From the hub come ranges of bytes: the footer of a file, then the pages of one column, row group by row group. A name
of the hub is owner/name, and behind it a folder or a glob of files. Since what is behind a name changes, a commit is
to be given, so that a config says what it learns from. Order of the rows: corpus/streaming.
"""

import fnmatch
import re
from pathlib import Path
from typing import Any

from gptlab.config.typecheck import show_value
from gptlab.corpus.content import hash_file
from gptlab.corpus.data import StreamedData, find_files
from gptlab.corpus.hub import CONVERTED, refuse_local_revision, refuse_moving_revision
from gptlab.corpus.parquet import ParquetSource, import_extra
from gptlab.errors import Refused

EXPECTED = "a .parquet file, a folder of them, a glob, or owner/name of a data set of the hub"
SUFFIX = ".parquet"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(?:/.*)?", re.ASCII)


class Stream(StreamedData):
    """A column of texts that is tokenised while training goes on. Rows without a text are left out.

    path      local files of Parquet, or owner/name of the hub, with a folder or a glob of its files behind it
    revision  commit of a data set of the hub, 40 hexadecimal digits; null: the path is local
    column    the column that holds the text
    validation_documents  how many documents, the first, are the validation split
    buffer    documents in memory whose windows are shuffled, in whole thousands (1,024) or as many as a row group has
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        revision: str | None = None,
        column: str = "text",
        validation_documents: int = 1000,
        buffer: int = 4096,
    ) -> None:
        super().__init__(column=column, validation_documents=validation_documents, buffer=buffer)
        if not path:
            raise Refused(f"path={show_value(path)} names nothing to read; data=stream needs data.path=<{EXPECTED}>")
        refuse_moving_revision(revision)
        self.path, self.revision = path, revision

    @classmethod
    def list_files(cls, knobs: dict[str, Any]) -> list[Path]:
        """Return the local files; none for a name of the hub."""
        return find_local_files(knobs["path"])

    def find_source(self, cache_folder: Path) -> ParquetSource:
        files = find_local_files(self.path)
        if not files:
            return find_hub_files(self.path, self.revision)
        refuse_local_revision(self.path, self.revision)
        for file in files:
            if file.suffix.lower() != SUFFIX:
                raise Refused(
                    f"data.path={self.path}: {file} is not named {SUFFIX}, which alone is streamed; give Parquet, or "
                    "take data=huggingface for JSON lines and data=text for text"
                )
        hashes = [hash_file(file, cache_folder) for file in files]
        return ParquetSource([str(file) for file in files], open=str, identity=hashes)


def find_local_files(path: str) -> list[Path]:
    """Return the local files behind a path; none where there are none and it may be a name of the hub."""
    try:
        return find_files(path, EXPECTED, SUFFIX)
    except Refused:
        if not HUB_NAME.fullmatch(path) or Path(path).exists():
            raise
        return []


def find_hub_files(path: str, revision: str | None) -> ParquetSource:
    """Return the Parquet files of a commit of the hub that are below a folder, or fit a glob."""
    hub = import_extra("huggingface_hub")
    import_extra("pyarrow")
    owner, name, *rest = path.split("/", 2)
    repository, pattern = f"{owner}/{name}", "".join(rest).strip("/")
    there: list[str] = []
    try:
        if revision is None:
            raise Refused(suggest_revision(hub.HfApi(), repository))
        file_system = hub.HfFileSystem()
        root = f"datasets/{repository}@{revision}/"
        # a large data set has tens of thousands of files: below the folder first, all only for the refusal
        folder = re.split(r"[^/]*[*?[]", pattern)[0].rstrip("/")
        for place in dict.fromkeys([root + folder, root]):
            files = file_system.find(place.rstrip("/"))
            there = [file.removeprefix(root) for file in files if file.endswith(SUFFIX)]
            if names := [name for name in there if fits(name, pattern)]:
                return ParquetSource(
                    names,
                    open=lambda name: file_system.open(root + name, "rb"),
                    identity=[repository, revision, *names],
                )
    except Refused:
        raise
    except Exception as error:  # of the hub's library, or of whichever HTTP library it uses
        raise Refused(
            f"data.path={path} is no file here, and the hub cannot give it ({type(error).__name__}); check the name, "
            "data.revision and the network"
        ) from None
    known = ", ".join(list_folders(repository, there)) or "none"
    raise Refused(f"data.path={path} has no Parquet on the hub at that revision; folders that have: {known}")


def fits(file: str, pattern: str) -> bool:
    """Return whether a file is below the folder that `pattern` names, is that file, or fits it as a glob."""
    return not pattern or file == pattern or file.startswith(f"{pattern}/") or fnmatch.fnmatchcase(file, pattern)


def list_folders(repository: str, files: list[str]) -> list[str]:
    """Return the folders of a data set's files as values of data.path, at most twelve."""
    folders = sorted({f"{repository}/{file}".rpartition("/")[0] for file in files})
    return folders[:12]


def suggest_revision(api: Any, repository: str) -> str:
    """Return a refusal that says which commit, and which folders, the hub has by now."""
    info = api.dataset_info(repository)
    files = [file.rfilename for file in info.siblings if file.rfilename.endswith(SUFFIX)]
    if not files:
        info = api.dataset_info(repository, revision=CONVERTED)
        files = [file.rfilename for file in info.siblings if file.rfilename.endswith(SUFFIX)]
    return (
        f"data.revision=null is whatever the hub has by then; say data.revision={info.sha}, which is today's and has "
        f"Parquet as data.path={' or '.join(list_folders(repository, files)) or 'nothing'}"
    )
