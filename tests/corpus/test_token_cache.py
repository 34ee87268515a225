"""Laws of tokens on disk: the cache says what encoding says, is whole or not there, and foreign files are refused."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tiny_runs import finished, summary, tiny, train
from typer.testing import CliRunner

from gptlab.__main__ import app
from gptlab.config.factory import Factory
from gptlab.console.progress import delayed_progress
from gptlab.corpus.corpus import Corpus, build_corpus
from gptlab.corpus.data.shards import Shards
from gptlab.corpus.data.text import Text
from gptlab.corpus.disk_cache import cached_folder
from gptlab.corpus.token_files import describe_foreign_content
from gptlab.corpus.tokenizer.byte import Byte
from gptlab.corpus.tokenizer.bytepair import Gpt2, Learned
from gptlab.corpus.tokenizer.char import Char
from gptlab.errors import Refused

ROOT = Path(__file__).parents[2]
BYTE, CHAR, GPT2 = (Factory("tokenizer", kind, {}) for kind in (Byte, Char, Gpt2))
PAIRS = Factory("tokenizer", Learned, {"vocab_size": 300, "train_mb": 1})
every = pytest.mark.parametrize("make", [BYTE, CHAR, GPT2, PAIRS], ids=["byte", "char", "gpt2", "bpe"])


@pytest.fixture
def text(tmp_path: Path) -> Text:
    """A text of all kinds of characters."""
    (tmp_path / "text").write_text("".join(f"{n}: wörds of 日本 and 🐍s,\r\n  and more\n" for n in range(2000)))
    return Text(path=str(tmp_path / "text"))


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text is too long to be held, and comes in many portions."""
    monkeypatch.setattr("gptlab.corpus.split.MAX_HELD", 100)
    monkeypatch.setattr("gptlab.corpus.data.text.BLOCK", 1000)
    monkeypatch.setattr("gptlab.corpus.tokenizer.bytepair.PORTION", 3000)


# -- the cache


@every
def test_the_cache_says_what_encoding_says(
    make: Factory, text: Text, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gptlab.corpus.tokenizer.bytepair.PORTION", 3000)
    held = build_corpus(text, make, 16, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    request.getfixturevalue("long")
    for made in (build_corpus(text, make, 16, tmp_path / "cache"), build_corpus(text, make, 16, tmp_path / "cache")):
        assert (made.sha256, made.tokenizer.pieces) == (held.sha256, held.tokenizer.pieces)
        np.testing.assert_array_equal(made.train, held.train)  # type: ignore[arg-type]
        np.testing.assert_array_equal(made.validation, held.validation)  # type: ignore[arg-type]
        np.testing.assert_array_equal(made.batch(0, 3, 4, 16), held.batch(0, 3, 4, 16))
    assert isinstance(made.train, np.ndarray)
    assert not made.train.flags.owndata
    assert [path.name[:7] for path in (tmp_path / "cache").iterdir()] == ["tokens-"]


@pytest.mark.usefixtures("long")
def test_another_text_cut_or_knob_has_tokens_of_its_own(text: Text, tmp_path: Path):
    def count() -> int:
        return len(list((tmp_path / "cache").iterdir()))

    for make in (BYTE, PAIRS, Factory("tokenizer", Learned, {**PAIRS.knobs, "vocab_size": 299}), BYTE):
        build_corpus(text, make, 16, tmp_path / "cache")
    assert count() == 3
    build_corpus(Text(path=text.path, validation=0.2), BYTE, 16, tmp_path / "cache")
    assert count() == 4
    Path(text.path).write_text("another text " * 100)
    build_corpus(text, BYTE, 16, tmp_path / "cache")
    assert count() == 5


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("name", ["train.bin", "tokens.json"])
def test_a_cache_that_something_cut_short_is_refused_and_made_anew(name: str, text: Text, tmp_path: Path):
    first = build_corpus(text, CHAR, 16, tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    for content in ((folder / name).read_bytes()[:-2], b""):
        (folder / name).write_bytes(content)
        with pytest.raises(Refused, match=r"is not as it was made; remove that folder, and it is made anew$"):
            build_corpus(text, CHAR, 16, tmp_path / "cache")
    shutil.rmtree(folder)
    assert len(build_corpus(text, CHAR, 16, tmp_path / "cache").train) == len(first.train)


def test_long_work_shows_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch):
    for terminal in (True, False):
        written = io.StringIO()
        console = Console(file=written, force_terminal=terminal, width=100)
        monkeypatch.setattr("rich.console.Console", lambda made=console: made)
        with delayed_progress("making tokens", 8) as shown:
            shown.advance(1)
            assert written.getvalue() == ""  # not in the first second
            shown.began -= 2
            shown.advance(3)
        assert ("making tokens" in written.getvalue()) == terminal


@pytest.mark.usefixtures("long")
def test_what_is_refused_leaves_nothing(text: Text, tmp_path: Path):
    with pytest.raises(Refused, match="vocab_size=9999 is more than this text gives"):
        build_corpus(text, Factory("tokenizer", Learned, {"vocab_size": 9999, "train_mb": 1}), 16, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.usefixtures("long")
def test_a_text_that_changes_while_it_is_read_is_refused(text: Text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    chunks, times = text.chunks, []

    def changing():
        times.append(0)
        yield from (chunk.replace("more", "rome") if len(times) > 3 else chunk for chunk in chunks())

    monkeypatch.setattr(text, "chunks", changing)
    with pytest.raises(Refused, match="the text changed while it was read"):
        build_corpus(text, CHAR, 16, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_no_room_on_the_disk_is_told_in_one_line(tmp_path: Path):
    def fill(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError(28, "No space left on device")

    with pytest.raises(Refused, match="the disk is full"):
        cached_folder(tmp_path / "one", fill)
    assert not list(tmp_path.iterdir())


SLOWLY = """
import sys, time
from pathlib import Path
from gptlab.corpus.disk_cache import cached_folder

def fill(folder):
    for n in range(5):
        (folder / f"{n}").write_text(sys.argv[2])
        print(n, flush=True)
        time.sleep(float(sys.argv[3]))

cached_folder(Path(sys.argv[1]), fill)
"""


def making(folder: Path, content: str, seconds: float) -> "subprocess.Popen[str]":
    """A process that makes a folder of five files, so many seconds a file."""
    command = [sys.executable, "-c", SLOWLY, str(folder), content, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": f"{ROOT}/src"})


def test_what_a_killed_process_left_is_made_anew(tmp_path: Path):
    process = making(tmp_path / "one", "half", 60)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert [path.name for path in tmp_path.iterdir()] == ["one.part"]
    cached_folder(tmp_path / "two", lambda folder: (folder / "x").touch())
    assert [path.name for path in tmp_path.iterdir()] == ["two"]  # so what is left is taken away by whoever comes next
    making(tmp_path / "one", "whole", 0).communicate(timeout=60)
    assert [path.read_text() for path in (tmp_path / "one").iterdir()] == ["whole"] * 5


def test_of_two_processes_one_makes_and_the_other_waits(tmp_path: Path):
    processes = [making(tmp_path / "one", str(number), 0.1) for number in range(2)]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(said) == ["", "0\n1\n2\n3\n4\n"]
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert len({path.read_text() for path in (tmp_path / "one").iterdir()}) == 1


def test_one_that_waited_for_a_killed_process_makes_it_himself(tmp_path: Path):
    first = making(tmp_path / "one", "first", 60)
    assert first.stdout is not None
    first.stdout.readline()
    second = making(tmp_path / "one", "second", 0)
    time.sleep(0.5)
    assert second.poll() is None
    first.kill()
    first.communicate()
    second.communicate(timeout=60)
    assert [path.read_text() for path in (tmp_path / "one").iterdir()] == ["second"] * 5


# -- files of tokens


def write(folder: Path, dtype: str = "uint16", **splits: list[int]) -> Path:
    """A folder of files of tokens."""
    folder.mkdir(exist_ok=True)
    for name, tokens in splits.items():
        np.array(tokens, f"<{np.dtype(dtype).str[1:]}").tofile(folder / f"{name}.bin")
    return folder


def read_shards(folder: Path, make: Factory = BYTE, **knobs: object) -> Corpus:
    """The corpus of a folder of tokens."""
    return build_corpus(Shards(path=str(folder), **knobs), make, 16, folder.parent / "cache")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int64"])
def test_files_of_tokens_are_read_as_they_stand(dtype: str, tmp_path: Path):
    tokens = np.random.default_rng(0).integers(0, 50257, 3000)
    parts = {"train_1": tokens[:999], "train_2": tokens[999:2000], "val": tokens[2000:]}
    folder = write(tmp_path / "tokens", dtype, **{name: part.tolist() for name, part in parts.items()})
    made = read_shards(folder, GPT2, dtype=dtype)
    assert (made.train[np.arange(2000)] == tokens[:2000]).all()
    assert (made.validation[np.arange(1000)] == tokens[2000:]).all()
    (folder / "val.bin").unlink()
    made = read_shards(folder, GPT2, dtype=dtype, validation=0.4)
    assert (made.train[np.arange(1200)] == tokens[:1200]).all()
    assert (made.validation[np.arange(800)] == tokens[1200:2000]).all()


def test_a_file_is_scanned_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = write(tmp_path / "tokens", train=[*range(100)], val=[*range(50)])
    first = read_shards(folder).sha256
    scans = []
    monkeypatch.setattr(
        "gptlab.corpus.token_files._scan_file", lambda file, *_: scans.append(file.name) or ("0" * 64, 1, 0)
    )
    assert read_shards(folder).sha256 == first
    assert scans == []
    write(folder, train=[*range(99), 0])
    assert read_shards(folder).sha256 != first
    assert scans == ["train.bin"]


def test_the_largest_token_is_found_wherever_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gptlab.corpus.token_files.BLOCK", 64)
    for at in (0, 31, 32, 33, 499):
        tokens = [255] * 500
        tokens[at] = 256
        folder = write(tmp_path / f"{at}", train=tokens, val=[0] * 50)
        line = rf"train.bin has the token 256 at place {at}, beyond the vocabulary of 256; take the tokenizer"
        with pytest.raises(Refused, match=line):
            read_shards(folder)


def header(magic: int, version: int, *more: int) -> bytes:
    """256 int32, as llm.c's dev/data/data_common.py writes them."""
    return np.array([magic, version, *more, *[0] * (254 - len(more))], "<i4").tobytes()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is empty, so it holds no tokens of data.dtype=uint16"),
        (b"abc", "has 3 bytes, which is no multiple of 2, so"),
        (b"First Citizen:\nSpeak! " * 9, "is a text; read it with data=text"),
        ("日本語の文章\n".encode() * 10, "is a text; read it with data=text"),
        (b"\x93NUMPY\x01\x00" + bytes(120), "is an array of numpy; write it with array.tofile"),
        (header(20240520, 1, 9), "should hold 9 tokens of uint16, says its header, and has room for 0; get it anew"),
        (header(20240520, 1, 9) + bytes(17), "should hold 9 tokens of uint16, says its header, and has room for 8.5"),
        (header(20240801, 7, 9) + bytes(18), "should hold 9 tokens of uint32, says its header, and has room for 4.5"),
        (header(20240520, 2, 9) + bytes(18), "has the header of llm.c, magic number 20240520, in version 2, and 1 is"),
        (header(20240522, 1, 9, 90) + bytes(18), "has a header of 256 int32 with the magic number 20240522, none of"),
        (header(20250101, 1, 9) + bytes(18), "has a header of 256 int32 with the magic number 20250101, none of 202"),
        (
            np.arange(1000, dtype="<u4").tobytes(),
            "has zeros between the tokens of data.dtype=uint16, so it holds uint",
        ),
        (
            np.arange(1000, dtype="<i8").tobytes(),
            "has zeros between the tokens of data.dtype=uint16, so it holds int",
        ),
        (bytes([*range(65)] * 8), "holds a byte for each token, which data.dtype=uint16 would read in pairs; widen"),
    ],
)
def test_files_of_another_kind_are_refused(content: bytes, line: str, tmp_path: Path):
    folder = write(tmp_path / "tokens", train=[*range(100)])
    (folder / "val.bin").write_bytes(content)
    with pytest.raises(Refused) as caught:
        read_shards(folder)
    assert f"val.bin {line}" in str(caught.value)


WIDTHS = ("uint16", "uint32", "int64")


@pytest.mark.parametrize("said", WIDTHS)
@pytest.mark.parametrize("holds", WIDTHS)
def test_tokens_are_read_by_the_width_that_they_have_or_not_at_all(holds: str, said: str, tmp_path: Path):
    tokens = np.random.default_rng(0).integers(0, 50257, 3000).tolist()
    folder = write(tmp_path / "tokens", holds, train=tokens, val=tokens)
    if holds == said:
        assert len(read_shards(folder, GPT2, dtype=said).train) == 3000
        return
    with pytest.raises(Refused, match=r"data\.dtype") as caught:
        read_shards(folder, GPT2, dtype=said)
    if WIDTHS.index(holds) > WIDTHS.index(said):  # the remedy that is named works
        assert str(caught.value).endswith(f"take data.dtype={holds}")


def test_small_vocabularies_are_no_single_bytes():
    tokens = np.random.default_rng(0).integers(0, 128, 2000)
    assert describe_foreign_content(tokens.astype("<u2").tobytes(), "uint16") == ""
    assert "holds a byte for each token" in describe_foreign_content(tokens.astype("u1").tobytes(), "uint16")


def test_a_token_below_zero_is_refused(tmp_path: Path):
    folder = write(tmp_path / "tokens", "int64", train=[*range(99), -1], val=[*range(100)])
    with pytest.raises(Refused, match=r"train.bin has the token 18446744073709551615 at place 99, beyond the vocab"):
        read_shards(folder, dtype="int64")


@pytest.mark.parametrize(("magic", "version", "dtype"), [(20240520, 1, "uint16"), (20240801, 7, "uint32")])
def test_files_of_llm_c_are_the_tokens_behind_their_header(magic: int, version: int, dtype: str, tmp_path: Path):
    """Beside files without one, whose dtype is that of the knob."""
    tokens = np.random.default_rng(0).integers(0, 50257, 700)
    plain = read_shards(write(tmp_path / "plain", train=tokens[:500].tolist(), val=tokens[500:].tolist()), GPT2)
    folder = write(tmp_path / "tokens", train_0=tokens[:200].tolist(), val=tokens[500:].tolist())
    (folder / "train_1.bin").write_bytes(header(magic, version, 300) + tokens[200:500].astype(dtype).tobytes())
    made = read_shards(folder, GPT2)
    assert (made.train[0:500] == plain.train[0:500]).all()
    assert (made.batch(0, 3, 20, 150) == plain.batch(0, 3, 20, 150)).all()


def test_a_token_beyond_the_vocabulary_is_found_behind_a_header(tmp_path: Path):
    folder = write(tmp_path / "tokens", train=[*range(100)], val=[*range(100)])
    (folder / "train.bin").write_bytes(header(20240520, 1, 4) + np.array([1, 2, 300, 4], "<u2").tobytes())
    with pytest.raises(Refused, match=r"train.bin has the token 300 at place 2, beyond the vocabulary of 256"):
        read_shards(folder)


def test_tokens_of_another_width_are_beyond_the_vocabulary(tmp_path: Path):
    folder = write(tmp_path / "tokens", train=[*range(1000)], val=[*range(100)])
    with pytest.raises(Refused, match="beyond the vocabulary of 50257; take the tokenizer that made it"):
        read_shards(folder, GPT2, dtype="uint32")


@pytest.mark.parametrize("make", [CHAR, PAIRS], ids=["char", "bpe"])
def test_a_tokenizer_that_learns_from_a_text_is_refused_where_there_is_none(make: Factory, tmp_path: Path):
    folder = write(tmp_path / "tokens", train=[*range(100)], val=[*range(100)])
    with pytest.raises(Refused, match="tokenizer learns from a text, and the data are tokens already"):
        read_shards(folder, make)


# -- whole runs


@pytest.mark.parametrize(("tokenizer", "knobs"), [("bpe", ["tokenizer.vocab_size=300"]), ("gpt2", [])])
def test_a_run_learns_and_samples_by_byte_pairs(tokenizer: str, knobs: list[str], tmp_path: Path):
    run = finished(*tiny(tmp_path, f"tokenizer={tokenizer}", *knobs, "steps=3", "batch_size=2"))
    found, stored = summary(run), json.loads((run / "tokenizer.json").read_text())
    assert found["data_sha256"] == hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert len(json.dumps(stored)) < 10_000
    assert found["val/bits_per_byte"] < found["val/loss"] / np.log(2)
    said = CliRunner().invoke(app, ["sample", str(run), "--prompt", "the", "--length", "5"])
    assert (said.exit_code, said.stdout[:3]) == (0, "the")


def test_a_run_on_tokens_that_stand_ready_is_the_run_on_their_text(tmp_path: Path):
    text = (ROOT / "LICENSE").read_bytes()
    cut = int(len(text) * 0.9)
    folder = write(tmp_path / "tokens", train=[*text[:cut]], val=[*text[cut:]])
    ready = finished(*tiny(tmp_path, "tokenizer=byte", "steps=3", "data=shards", f"data.path={folder}"))
    plain = finished(*tiny(tmp_path, "tokenizer=byte", "steps=3"))
    assert summary(ready)["val/loss"] == summary(plain)["val/loss"]


def test_a_run_on_documents(tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow, of the extra huggingface, is not installed")
    table = pytest.importorskip("pyarrow").table({"story": ["once upon a time", "there was a text"] * 99})
    parquet.write_table(table, tmp_path / "stories.parquet")
    place = [f"data.path={tmp_path}/stories.parquet", "data.column=story"]
    run = finished(*tiny(tmp_path, "data=huggingface", *place, "steps=3"))
    assert summary(run)["status"] == "finished"


def test_a_run_on_a_glob_that_is_resumed_elsewhere_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path(f"{name}.txt").write_text("to be or not to be, that is the question. " * 99)
    run = finished(*tiny(tmp_path, "data.path='*.txt'", "steps=14")).absolute()
    (run / "summary.json").unlink()
    monkeypatch.chdir("/")
    assert train(f"resume={run}").status == 0
