"""Laws of files that are written whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from gptlab.errors import Refused
from gptlab.runs.record import RunFolder, read_rows, write_atomically

LETTERS = 20_000


def test_two_writers_of_one_file_leave_what_one_of_them_wrote(tmp_path: Path):
    path = tmp_path / "results.csv"
    code = (
        "import sys; from pathlib import Path; from gptlab.runs.record import write_atomically\n"
        f"for _ in range(100): write_atomically(Path(sys.argv[1]), sys.argv[2] * {LETTERS})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), letter]) for letter in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert path.read_text() in ("a" * LETTERS, "b" * LETTERS)
    assert [*tmp_path.iterdir()] == [path]


def test_what_a_killed_writer_left_goes_with_the_next_lock(tmp_path: Path):
    left = tmp_path / ".summary.json.123.part"
    left.write_text("half")
    with RunFolder(tmp_path).lock():
        assert not left.exists()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path):
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "summary.json", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ('{"step": 1}\n{"step": 2}\n', [1, 2]),
        ('{"step": 1}\n{"ste', [1]),  # a kill
        ('{"step": 1}\n\n{"step": 2}\n{"st', [1, 2]),
        ('{"step": 1}\n{"st\n{"step": 3}\n', None),
        ('{"step": 1}\n[2]\n', None),
        ('{"step": 1},{"step": 2}\n{"step": 3}\n', None),
        ("", []),
    ],
)
def test_only_a_last_row_may_be_half(text: str, whole: list[int] | None, tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text(text)
    if whole is None:
        with pytest.raises(Refused, match=r"metrics\.jsonl has a line that is no row: "):
            list(read_rows(tmp_path / "metrics.jsonl"))
    else:
        assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == whole
