"""Laws of files that are written whole."""

import os
from pathlib import Path

import pytest

from gptlab.runs.record import RunFolder, write_atomically

LETTERS = 20_000


def test_two_writers_of_one_file_leave_what_one_of_them_wrote(tmp_path: Path):
    path = tmp_path / "results.csv"
    writers = []
    for letter in "ab":
        if not (child := os.fork()):
            try:
                for _ in range(60):
                    write_atomically(path, letter * LETTERS)
            except BaseException:
                os._exit(1)
            os._exit(0)
        writers.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in writers]
    assert statuses == [0, 0]
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
