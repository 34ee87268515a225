"""Data sets: one text, split by position into training and validation, or files of tokens."""

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gptlab.corpus.content import FileReader
from gptlab.errors import Refused


class TokenFiles(NamedTuple):
    """Token files of both splits; without any for validation, the last share of the training tokens is that split."""

    train: list[Path]
    validation: list[Path]
    dtype: str


class Data(FileReader):
    """Contract of the slot: __init__(*, knobs, validation), and one of text, chunks and tokens.

    Subclasses import neither numpy nor torch. `validation` is the share of the text that is the validation split.
    """

    def __init__(self, *, validation: float = 0.1) -> None:
        if not 0 < validation < 1:
            raise Refused(f"validation={validation} is not between 0 and 1; try 0.1")
        self.validation = validation

    def text(self) -> str:
        """Return the whole text, unchanged; raise Refused if it cannot be read."""
        raise NotImplementedError

    def chunks(self) -> Iterator[str]:
        """Yield the text from its start in pieces that fit into memory; may be called repeatedly."""
        yield self.text()

    def tokens(self) -> TokenFiles | None:
        """Return the token files, None for a data set of text."""
        return None


def find_files(path: str, expected: str, suffix: str = "") -> list[Path]:
    """Return the file at `path`, the files below a folder that end in `suffix`, or those of a glob, sorted by path.

    Hidden files are left out. Raises Refused where there are none, saying what is `expected`.
    """
    with refuse_read_errors(path, expected):
        location = Path(path).expanduser()
        try:
            location.stat()
        except (FileNotFoundError, NotADirectoryError):
            if not glob.has_magic(path):
                raise
            paths = [Path(match) for match in glob.glob(str(location), recursive=True)]
        else:
            paths = list(walk_files(location, suffix)) if location.is_dir() else [location]
        for file in paths:
            if not file.exists():
                raise Refused(
                    f"data.path={path} holds {file}, a link to {file.readlink()}, which does not exist; "
                    "mend the link or remove it"
                )
        paths = sorted(file for file in paths if file.is_file())
    if not paths:
        raise Refused(f"data.path={path} holds no {f'{suffix} ' if suffix else ''}file; give {expected}")
    return paths


def walk_files(folder: Path, suffix: str, ancestors: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the entries below a folder that end in `suffix`, in letters of any case, hidden ones left out.

    Links to folders are followed, but not back to one of `ancestors`, whose files are among the others already.
    """
    ancestors = (*ancestors, folder.resolve())
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if entry.resolve() not in ancestors:
                yield from walk_files(entry, suffix, ancestors)
        elif entry.name.lower().endswith(suffix):
            yield entry


@contextmanager
def refuse_read_errors(path: str | Path, expected: str) -> Iterator[None]:
    """Turn errors of the system about `path` into Refused, saying what is `expected`."""
    try:
        yield
    except Refused:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(f"data.path={path} does not exist; give {expected}") from None
    except IsADirectoryError:
        raise Refused(f"data.path={path} is a folder; give {expected}") from None
    except (OSError, ValueError, RuntimeError) as error:  # unreadable; a NUL in the name; no home for ~
        reason = getattr(error, "strerror", None) or error
        raise Refused(f"data.path={path} cannot be read ({reason}); give {expected}") from None
