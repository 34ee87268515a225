"""What is read: one text, cut by position into what is learnt from and what is judged on; or tokens, ready made."""

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from gptlab.errors import Refused


class TokenFiles(NamedTuple):
    """Files of nothing but tokens. Without any for validation, the last share of the others is that split."""

    train: list[Path]
    validation: list[Path]
    dtype: str


class Data:
    """The slot's contract: __init__(*, knobs, validation), and text, chunks or tokens. Numpy and torch stay out."""

    def __init__(self, *, validation: float = 0.1) -> None:
        if not 0 < validation < 1:
            raise Refused(f"validation={validation} is not between 0 and 1; try 0.1")
        self.validation = validation

    @classmethod
    def reads(cls, knobs: dict[str, Any]) -> list[Path]:
        """Return the files behind its path, in order; none where it names no files here."""
        return []

    @classmethod
    def role(cls, file: Path) -> str:
        """Return what the name of a file decides beside its place, if anything."""
        return ""

    def text(self) -> str:
        """The whole text, exactly as it stands; raises Refused if it cannot be had."""
        raise NotImplementedError

    def chunks(self) -> Iterator[str]:
        """The text from its start in pieces that fit into memory, as often as asked."""
        yield self.text()

    def tokens(self) -> TokenFiles | None:
        """Where tokens stand ready; none where there is a text."""
        return None


def files(path: str, wanted: str, ending: str = "") -> list[Path]:
    """The file at a path; or those in a folder and below that end so, none hidden; or those of a glob. In the order of
    their paths; raises Refused where there are none, with what is wanted."""
    with told(path, wanted):
        given = Path(path).expanduser()
        try:
            given.stat()
        except (FileNotFoundError, NotADirectoryError):
            if not glob.has_magic(path):
                raise
            found = [Path(one) for one in glob.glob(str(given), recursive=True)]
        else:
            found = list(walk_files(given, ending)) if given.is_dir() else [given]
        for file in found:
            if not file.exists():
                raise Refused(
                    f"data.path={path} holds {file}, a link to {file.readlink()}, which does not exist; "
                    "mend the link or remove it"
                )
        found = sorted(file for file in found if file.is_file())
    if not found:
        raise Refused(f"data.path={path} holds no {f'{ending} ' if ending else ''}file; give {wanted}")
    return found


def walk_files(folder: Path, ending: str, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the entries of a folder and below that end so, none hidden. Links to folders are followed, but not back to
    a folder `above`, whose files are among the others already."""
    above = (*above, folder.resolve())
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if entry.resolve() not in above:
                yield from walk_files(entry, ending, above)
        elif entry.name.endswith(ending):
            yield entry


def anchored(path: str, folder: str) -> str:
    """A path as it was seen from a folder. What is nothing there, such as the name of a data set, stays as it is."""
    seen = Path(folder) / Path(path).expanduser()
    return str(seen) if seen.exists() or glob.glob(str(seen), recursive=True) else path


def seen_from(folder: str, node: dict[str, Any]) -> dict[str, Any]:
    """A slot's node, its path as it was seen from a folder."""
    return {**node, "path": anchored(node["path"], folder)} if node.get("path") else node


@contextmanager
def told(path: str | Path, wanted: str) -> Iterator[None]:
    """Turns what the system says of a path into a refusal with what is wanted."""
    try:
        yield
    except Refused:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(f"data.path={path} does not exist; give {wanted}") from None
    except IsADirectoryError:
        raise Refused(f"data.path={path} is a folder; give {wanted}") from None
    except (OSError, ValueError, RuntimeError) as error:  # unreadable; a NUL in the name; no home for ~
        reason = getattr(error, "strerror", None) or error
        raise Refused(f"data.path={path} cannot be read ({reason}); give {wanted}") from None
