"""Documents of a column of Parquet, a batch at a time; what is no whole Parquet, or no column of texts, is refused."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

from gptlab.errors import Refused

BATCH = 1024
"""Documents held at once."""


class ParquetSource(NamedTuple):
    """Files of Parquet wherever they are.

    names     of the files, in their order
    open      returns one for pyarrow: its path, or a binary file that can seek
    identity  what their content is known by: hashes of local files, or a commit
    """

    names: list[str]
    open: Callable[[str], Any]
    identity: list[str]


def import_extra(module: str) -> Any:
    """Import a module of the extra `huggingface`; raise Refused where it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        package = module.split(".")[0]
        raise Refused(f"data.path needs the package {package}; run: pip install 'gptlab[huggingface]'") from None


@contextmanager
def refuse_damaged_parquet(path: str, file: str) -> Iterator[None]:
    """Turn pyarrow's errors about a file of data.path into Refused."""
    arrow = import_extra("pyarrow")
    try:
        yield
    except arrow.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise Refused(f"data.path={path}: {file} is not whole Parquet ({reason}); get it anew") from None


def check_column(schema: Any, column: str, file: str) -> None:
    """Refuse a column that does not exist or holds no texts."""
    column_types = {field.name: str(field.type) for field in schema}
    text_columns = [name for name, kind in column_types.items() if kind in ("string", "large_string", "string_view")]
    if column not in text_columns:
        problem = f"holds {column_types[column]}, no text" if column in column_types else "is not there"
        remedy = f"choose from {', '.join(text_columns)}" if text_columns else "it has no column of texts"
        raise Refused(f"data.column={column} {problem} in {file}; {remedy}")


def read_column(parquet_file: Any, column: str, row_groups: list[int] | None = None) -> Iterator[list[str | None]]:
    """Yield the values of a column, at most `BATCH` at a time; of some row groups, or of all."""
    for batch in parquet_file.iter_batches(BATCH, columns=[column], row_groups=row_groups):
        yield batch.column(0).to_pylist()
