"""What the system lacks is told in one line: locks, letters of a terminal, names that are too long or no UTF-8."""

import os
import subprocess
from pathlib import Path

import pytest
from forked_process import run_forked
from tiny_runs import COMPARED, ROOT, summary, tiny

NO_LOCKS = """
import errno, fcntl, os, runpy, sys
def no(*_): raise OSError({0}, os.strerror({0}))
fcntl.flock = fcntl.lockf = no
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def outside(*argv: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """python <argv>, in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    return run_forked(*argv, env={**environment, "OMP_NUM_THREADS": "1", **variables})


def told(done: "subprocess.CompletedProcess[str]") -> str:
    """The one line that was refused with."""
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    return done.stderr


@pytest.mark.parametrize("number", ["errno.ENOLCK", "errno.ENOSYS"])
def test_a_file_system_without_locks_is_named(number: str, tmp_path: Path):
    line = told(outside("-c", NO_LOCKS.format(number), "train.py", *tiny(tmp_path)))
    assert "its file system locks no files (" in line
    assert "set outputs=<folder on another file system>" in line
    assert not [*(tmp_path / "runs").iterdir()]


@pytest.mark.thorough
@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_a_terminal_of_another_encoding_loses_letters_and_no_results(encoding: str, tmp_path: Path):
    words = ["steps=10", "sample.count=1", "attention=mha,mqa", "seeds=2", "timing=0", "name=found", "jobs=1"]
    done = outside("ablate.py", *tiny(tmp_path), *words, PYTHONIOENCODING=encoding)
    assert (done.returncode in COMPARED, done.stderr) == (True, "")
    done = outside("train.py", *tiny(tmp_path), "sample.count=1", "seed=7", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "?" in done.stdout
    assert summary(Path(done.stdout.splitlines()[-1]))["status"] == "finished"


@pytest.mark.parametrize("name", ["train.py", "ablate.py"])
def test_a_folder_whose_name_is_too_long_is_refused(name: str, tmp_path: Path):
    words = [*tiny(tmp_path / ("x" * 300)), *(["seeds=1"] if name == "ablate.py" else [])]
    line = told(outside(name, *words))
    assert line.startswith("error: outputs=")
    assert line.endswith("cannot be written: File name too long; set outputs=<folder>\n")


@pytest.mark.parametrize("word", ["resume", "data.path", "pretrained.path"])
def test_a_path_that_is_too_long_is_told_in_one_line(word: str, tmp_path: Path):
    more = ["pretrained=hf"] if "pretrained" in word else []
    assert "File name too long" in told(outside("train.py", *tiny(tmp_path), *more, f"{word}={'x' * 300}"))


def test_a_file_name_that_is_no_utf8_is_read_like_any_other(tmp_path: Path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    with open(path, "wb") as file:
        file.write((ROOT / "LICENSE").read_bytes())
    rest = [word for word in tiny(tmp_path) if not word.startswith("data.path")]
    done = outside("train.py", *rest, "data.path='" + os.fsdecode(path) + "'")
    assert (done.returncode, done.stderr) == (0, "")
    folder = Path(done.stdout.splitlines()[-1])
    assert summary(folder)["status"] == "finished"
    done = outside("-m", "gptlab", "sample", str(folder), "--length", "3")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.thorough
@pytest.mark.parametrize("inside", ["", "runs", "locks", "ablations"])
def test_a_folder_that_is_a_file_or_a_link_to_nowhere_is_refused_before_any_cell(inside: str, tmp_path: Path):
    in_the_way = tmp_path / "pool" / inside
    in_the_way.parent.mkdir(exist_ok=True)
    for put in (lambda: in_the_way.symlink_to(tmp_path / "nowhere"), in_the_way.touch):
        put()
        line = told(outside("ablate.py", *tiny(tmp_path / "pool"), "attention=mha,gqa", "seeds=2"))
        assert line.startswith(f"error: outputs={tmp_path}/pool cannot be written: {in_the_way} is read-only or no")
        if inside in ("", "runs"):
            assert told(outside("train.py", *tiny(tmp_path / "pool"))) == line
        in_the_way.unlink()
        assert not any((tmp_path / "pool").glob("*"))  # nothing half-made


@pytest.mark.thorough
def test_a_summary_that_may_not_be_read_is_named_and_is_no_run_that_is_gone(tmp_path: Path):
    words = [*tiny(tmp_path), "steps=4", "attention=mha,gqa", "seeds=2", "timing=0", "name=found", "jobs=1"]
    assert outside("ablate.py", *words).returncode in COMPARED
    study = tmp_path / "ablations" / "found"
    before = (study / "comparison.json").read_bytes()
    file = sorted((tmp_path / "runs").glob("*/summary.json"))[0]
    file.unlink()
    file.symlink_to(file)  # also root may not read it
    for argv in (["ablate.py", *words], ["-m", "gptlab", "report", str(study)], ["-m", "gptlab", "judge", str(study)]):
        assert f"error: {file}: Too many levels of symbolic links" in outside(*argv).stderr
    assert (study / "comparison.json").read_bytes() == before
    # and of values of another kind, none is a traceback
    file.unlink()
    file.write_text('{"status": "finished", "val/loss": "2.1"}')
    done = outside("-m", "gptlab", "status", str(study))
    assert (done.returncode, "its summary.json is damaged" in " ".join(done.stdout.split())) == (0, True), done
    facts = file.with_name("run.json")
    facts.write_text(facts.read_text().replace('"id"', '"identity"'))
    line = told(outside("-m", "gptlab", "sync", str(study)))
    assert line.startswith(f"error: {facts} does not say what the run is called in W&B (id); ")


def test_a_pool_that_cannot_be_listed_is_not_called_empty(tmp_path: Path):
    (tmp_path / "runs").touch()
    line = told(outside("-m", "gptlab", "runs", "--outputs", str(tmp_path)))
    assert line == f"error: {tmp_path}/runs: Not a directory; check that path and its rights\n"


@pytest.mark.parametrize("argv", [["train.py"], ["ablate.py", "seeds=1"], ["-m", "gptlab", "runs", "--json"]])
def test_a_working_folder_that_was_removed_is_told_before_anything_is_done(argv: list[str], tmp_path: Path):
    leave = "import os, runpy, sys; os.chdir(sys.argv[1]); os.rmdir(sys.argv[1]); sys.argv = sys.argv[2:]\n"
    start, words = "runpy.run_path(sys.argv[0], {}, '__main__')", [str(ROOT / argv[0]), *tiny(tmp_path), *argv[1:]]
    if argv[0] == "-m":
        start, words = "runpy.run_module(sys.argv[0], run_name='__main__')", argv[1:]
    (tmp_path / "gone").mkdir()
    done = outside("-c", leave + start, str(tmp_path / "gone"), *words)
    assert told(done) == "error: the working folder was removed; change to one that is there\n"
    assert not [*tmp_path.iterdir()]


@pytest.mark.thorough
@pytest.mark.parametrize("word", ["OMP_NUM_THREADS=99999999", "OMP_NUM_THREADS=2,-3", "MKL_NUM_THREADS=all"])
def test_a_number_of_threads_that_no_machine_has_is_refused_before_the_runtimes_hang(word: str):
    variable, _, value = word.partition("=")
    for argv in (["train.py", "--cfg", "job"], ["ablate.py", "attention=mha,gqa"], ["-m", "gptlab", "runs"]):
        line = told(outside(*argv, **{variable: value}))
        assert line.startswith(f"error: {word} is no number of threads from 1 to 65,536; leave it out, or give cores: ")


@pytest.mark.thorough
@pytest.mark.parametrize(("columns", "lines"), [("0", "0"), ("²", "-1"), ("", "many")])
def test_a_terminal_of_no_size_hides_nothing(columns: str, lines: str, tmp_path: Path):
    done = outside("train.py", *tiny(tmp_path), "steps=2", COLUMNS=columns, LINES=lines)
    assert (done.returncode, done.stderr) == (0, "")
    assert summary(Path(done.stdout.splitlines()[-1]))["status"] == "finished"


LITTLE_ROOM = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""


def test_a_file_for_which_there_is_no_room_is_named_and_not_begun(tmp_path: Path):
    before = tmp_path / "attention.json"
    before.write_text("{}")
    line = told(outside("-c", LITTLE_ROOM, "gptlab", "schema", "--to", str(tmp_path)))
    assert line.startswith(f"error: {tmp_path}/")
    assert line.endswith(".json: File too large; free some room there\n")
    assert [path for path in tmp_path.iterdir() if path.stat().st_size < 3 and path != before] == []
    assert before.read_text() == "{}" or len(before.read_text()) > 2


def test_a_stdout_without_room_is_named(tmp_path: Path):
    into_nothing = "import os, runpy, sys; os.dup2(os.open('/dev/full', os.O_WRONLY), 1); sys.argv = sys.argv[1:]\n"
    done = outside("-c", into_nothing + "runpy.run_path('train.py', {}, '__main__')", "train.py", "--cfg", "job")
    assert "error: stdout: No space left on device; free some room there\n" in done.stderr
    assert "Traceback" not in done.stderr
