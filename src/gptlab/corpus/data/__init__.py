"""Data sets: one text, split by position into training and validation; files of tokens; or a synthetic task."""

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from gptlab.corpus.content import FileReader
from gptlab.errors import Refused

if TYPE_CHECKING:
    import numpy as np

    from gptlab.corpus.documents import TextDocuments
    from gptlab.corpus.parquet import ParquetSource


class TokenFiles(NamedTuple):
    """Token files of both splits; without any for validation, the last share of the training tokens is that split."""

    train: list[Path]
    validation: list[Path]
    dtype: str


class Data(FileReader):
    """Contract of the slot: __init__(*, knobs, validation), and one of text, chunks and tokens.

    Those that read text import neither numpy nor torch. `validation` is the share of it that is the validation split.
    One that knows its documents sets `asks_for_documents` where it is asked for them, and defines find_documents, or
    find_separator if it is of tokens; `mask_documents` has each read as if it were alone, `packing` says how rows of
    training are made of them.
    """

    asks_for_documents: bool = False
    mask_documents: bool = False
    packing: Literal["stream", "best_fit"] = "stream"

    def __init__(self, *, validation: float = 0.1) -> None:
        if not 0 < validation < 1:
            raise Refused(f"validation={validation} is not between 0 and 1; try 0.1")
        self.validation = validation

    def set_document_options(
        self, asks_for_documents: bool, mask_documents: bool, packing: Literal["stream", "best_fit"]
    ) -> None:
        """Set the three above; raise Refused for rows of whole documents that are not kept apart."""
        if packing == "best_fit" and not mask_documents:
            raise Refused(
                "packing=best_fit needs mask_documents=true: the documents of a row know nothing of each other"
            )
        # masks need the borders, whether or not losses by document were asked for
        self.asks_for_documents = asks_for_documents or mask_documents
        self.mask_documents, self.packing = mask_documents, packing

    def describe_doubts(self) -> str:
        """Return a line on what is read as it stands and may not be meant so, with the remedy; "" for nothing."""
        return ""

    def find_documents(self) -> "TextDocuments":
        """Return where the documents of the text begin."""
        raise NotImplementedError

    def find_separator(self, vocab: int) -> int:
        """Return the token that begins a document; raise Refused if a vocabulary of this size has none such."""
        raise NotImplementedError

    def text(self) -> str:
        """Return the whole text, unchanged; raise Refused if it cannot be read."""
        raise NotImplementedError

    def chunks(self) -> Iterator[str]:
        """Yield the text from its start in pieces that fit into memory; may be called repeatedly."""
        yield self.text()

    def tokens(self) -> TokenFiles | None:
        """Return the token files, None for a data set of text."""
        return None


class StreamedData(Data):
    """Contract of a data set of Parquet that is read while training goes on: __init__(*, path, knobs) and find_source.

    path    as it was given, for refusals
    column  the column that holds the text
    validation_documents  how many documents, the first, are the validation split
    buffer  documents in memory whose windows are shuffled
    """

    path: str

    def __init__(self, *, column: str, validation_documents: int, buffer: int) -> None:
        super().__init__()
        if validation_documents < 1 or buffer < 1:
            raise Refused(
                f"validation_documents={validation_documents} or buffer={buffer} is below 1; try 1000 and 4096"
            )
        self.column, self.validation_documents, self.buffer = column, validation_documents, buffer

    def find_source(self, cache_folder: Path) -> "ParquetSource":
        """Return the files; raise Refused where there are none, or where they may change unseen."""
        raise NotImplementedError


class Examples(NamedTuple):
    """Examples of a synthetic task.

    inputs      tokens, (N, T) int64
    targets     (N, T), IGNORED where nothing is asked
    difficulty  what makes an answer hard, by its name: whole numbers (N, T) where answers differ in it, else (N, 1)
    """

    inputs: "np.ndarray"
    targets: "np.ndarray"
    difficulty: "dict[str, np.ndarray]"


class SyntheticTask(Data):
    """Contract of a data set that is generated: __init__(*, examples, knobs), symbols, count_tokens and generate.

    It has no text. Training takes examples from a stream without end; `examples` of another stream are the validation
    split, the same for every run. One whose questions have several right answers sets `has_many_answers`, asks one
    question a row, and defines is_right.
    """

    has_many_answers: bool = False

    def __init__(self, *, examples: int = 1024) -> None:
        super().__init__()
        if examples < 1:
            raise Refused(f"examples={examples} is not positive; try 1024")
        self.examples = examples

    def symbols(self) -> list[str]:
        """Return the names of the tokens, without blanks, in their order."""
        raise NotImplementedError

    def count_tokens(self) -> int:
        """Return the length of the longest example, training and validation."""
        raise NotImplementedError

    def refuse_short_context(self, context: int) -> None:
        """Refuse a context in which the longest example has no room."""
        if self.count_tokens() > context:
            raise Refused(
                f"model.context={context} is shorter than the longest example of {self.count_tokens()} tokens; "
                f"say model.context={self.count_tokens()}, or make the task easier"
            )

    def is_right(self, question: list[int], answer: list[int]) -> bool:
        """Return whether an answer is one of the right ones, by the tokens of an example before it and its own."""
        raise NotImplementedError

    def ease(self, step: int) -> "SyntheticTask":
        """Return the task as training meets it at a step: easier at first, where a curriculum is asked for."""
        return self

    def generate(self, random: "np.random.Generator", rows: int, context: int, *, judged: bool) -> Examples:
        """Return examples of `context` tokens; what is longer than an example is padded.

        judged  they are of the validation split, which may be harder than training
        """
        raise NotImplementedError


def grow_length(step: int, curriculum: int | None, shortest: int, length: int) -> int:
    """Return the longest length of a step: from `shortest`, by equal parts, to `length` at step `curriculum`.

    The naive curriculum of Zaremba 2014, arXiv:1410.4615. None is `length` at every step.
    """
    if curriculum is None or step >= curriculum:
        return length
    return shortest + (length - shortest) * step // curriculum


def refuse_bad_curriculum(curriculum: int | None, length: int | None) -> None:
    """Raise Refused for a curriculum of no steps, and for one that grows to no length."""
    if curriculum is not None and curriculum < 1:
        raise Refused(f"data.curriculum={curriculum} is not positive; give steps, or null for none")
    if curriculum is not None and length is None:
        raise Refused(f"data.curriculum={curriculum} grows to data.length=null; say how long, as data.length=16")


def draw_distinct(random: "np.random.Generator", rows: int, below: int, count: int) -> "np.ndarray":
    """Return `count` distinct numbers below `below` for each row, in random order, (rows, count)."""
    # many of few: drawing until all differ would hardly end, and a shuffle is cheap
    if count**2 > below:
        return random.random((rows, below)).argsort(axis=1)[:, :count]
    drawn = random.integers(0, below, (rows, count))
    while True:  # each round mends six rows of ten or more
        ordered = drawn.copy()
        ordered.sort(axis=1)
        repeats = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        if not repeats.any():
            return drawn
        drawn[repeats] = random.integers(0, below, (int(repeats.sum()), count))


def find_files(path: str, expected: str, suffix: str | tuple[str, ...] = "") -> list[Path]:
    """Return the file at `path`, the files below a folder that end in `suffix`, or those of a glob, sorted by path.

    Hidden files are left out. Raises Refused where there are none, saying what is `expected`.
    """
    with refuse_read_errors(path, expected):
        location = Path(path).expanduser()
        try:
            # a file that is there wins over a glob: names may hold brackets
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
        # sorted: the order of a folder differs from disk to disk, and is the order of the text
        paths = sorted(file for file in paths if file.is_file())
    if not paths:
        kinds = suffix if isinstance(suffix, str) else " or ".join(suffix)
        raise Refused(f"data.path={path} holds no {f'{kinds} ' if kinds else ''}file; give {expected}")
    return paths


def walk_files(folder: Path, suffix: str | tuple[str, ...], ancestors: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the entries below a folder that end in `suffix`, in letters of any case, hidden ones left out.

    Links to folders are followed, but not back to one of `ancestors`, whose files are among the others already.
    """
    ancestors = (*ancestors, folder.resolve())
    for entry in folder.iterdir():
        # .DS_Store, .ipynb_checkpoints and the like are not the text
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            # a link to a folder above would never end
            if entry.resolve() not in ancestors:
                yield from walk_files(entry, suffix, ancestors)
        elif entry.name.lower().endswith(suffix):
            yield entry


@contextmanager
def refuse_read_errors(path: str | Path, expected: str) -> Iterator[None]:
    """Turn errors of the system about `path` into Refused, saying what is `expected`."""
    try:
        yield
    # a ValueError itself, which the last clause would word anew
    except Refused:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(f"data.path={path} does not exist; give {expected}") from None
    except IsADirectoryError:
        raise Refused(f"data.path={path} is a folder; give {expected}") from None
    except (OSError, ValueError, RuntimeError) as error:  # unreadable; a NUL in the name; no home for ~
        reason = getattr(error, "strerror", None) or error
        raise Refused(f"data.path={path} cannot be read ({reason}); give {expected}") from None
