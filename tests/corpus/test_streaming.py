"""Laws of streamed documents: rows of a step, whoever asks and whatever was read before; what is fetched; refusals."""

import importlib
import importlib.util
import re
import shutil
import signal
import time
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_in_hub import COMMIT, Hub, serve_hub
from tiny_runs import ended, finished, numbers, start, tiny, train

from gptlab.config.factory import factory
from gptlab.corpus.data.stream import Stream, fits
from gptlab.corpus.streaming import chunk_reader
from gptlab.corpus.streaming.stream_corpus import StreamCorpus, build_stream_corpus
from gptlab.corpus.streaming.token_ledger import TokenLedger
from gptlab.errors import Refused

CONTEXT, ROWS, JUDGED = 16, 4, 20
FILES, DOCUMENTS, GROUP = 3, 70, 30
needs_parquet = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="pyarrow, of the extra huggingface, is not installed"
)
pytestmark = needs_parquet


def name_document(file: int, row: int) -> str:
    """A text that no other contains, of 9 to 65 bytes."""
    return f"<{file}.{row:03}>" + "abcdefgh" * (1 + (file + row) % 7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of 70 documents in row groups of 30; one row of each has no text."""
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    (tmp_path / "data" / "train").mkdir(parents=True)
    for file in range(FILES):
        texts = [None if row == 9 else name_document(file, row) for row in range(DOCUMENTS)]
        table = arrow.table({"text": texts, "n": list(range(DOCUMENTS))})
        parquet.write_table(table, tmp_path / f"data/train/{file}.parquet", row_group_size=GROUP)
    return tmp_path / "data"


def build(path: Path | str, cache: Path, *, context: int = CONTEXT, tokenizer: str = "byte.Byte", **knobs: Any):
    """The corpus of a stream of bytes."""
    make_tokenizer = factory({"_target_": f"gptlab.corpus.tokenizer.{tokenizer}", "_partial_": True}, "tokenizer")
    data = Stream(path=str(path), **{"validation_documents": JUDGED, "buffer": 64, **knobs})
    return build_stream_corpus(data, make_tokenizer, context, cache)


def rows_of(corpus: StreamCorpus, step: int, part: slice = slice(None), seed: int = 1) -> np.ndarray:
    return corpus.batch(seed, step, ROWS, CONTEXT, part)


def refusal(action: Any, *arguments: Any, **knobs: Any) -> str:
    with pytest.raises(Refused) as refused:
        action(*arguments, **knobs)
    return str(refused.value)


# -- rows


def test_rows_depend_on_seed_and_step_alone(folder: Path, tmp_path: Path):
    first = build(folder, tmp_path / "a")
    in_order = [rows_of(first, step) for step in range(300)]  # some epochs
    # counts of tokens in the cache, and none; a step before others, and behind them
    for cache in ("a", "b"):
        again = build(folder, tmp_path / cache)
        for step in (280, 0, 77, 78, 5):
            assert (rows_of(again, step) == in_order[step]).all(), (cache, step)
    assert (rows_of(first, 3, seed=2) != in_order[3]).any()
    parts = [rows_of(build(folder, tmp_path / "b"), 7, slice(2 * rank, 2 * rank + 2)) for rank in range(2)]
    assert (np.concatenate(parts) == in_order[7]).all()


def test_each_epoch_reads_each_row_once_and_none_of_validation(folder: Path, tmp_path: Path):
    corpus = build(folder, tmp_path)
    # naively: rows of each row group in order behind the first documents, one of which is no text
    texts = [[name_document(file, row) for row in range(DOCUMENTS) if row != 9] for file in range(FILES)]
    assert corpus.tokenizer.decode(np.asarray(corpus.validation)) == "\n\n".join(texts[0][:JUDGED])
    learnt = sum(len(text) + 2 for text in [*chain.from_iterable(texts)][JUDGED:])
    rows_of(corpus, 0)
    stream = corpus.streams[1, CONTEXT]
    stream.take_windows(np.array([2 * learnt // CONTEXT]))
    epoch = [[tuple(chunk) for chunk in block] for block in stream.blocks]
    chunks = [(0, 0, 21, 9), (0, 1, 0, 30), (0, 2, 0, 10)]
    chunks += [(file, group, 0, rows) for file in (1, 2) for group, rows in enumerate((30, 30, 10))]
    flat = [*chain.from_iterable(epoch)]
    assert sorted(flat[: len(chunks)]) == chunks
    assert sorted(flat[len(chunks) : 2 * len(chunks)]) == chunks
    assert chunks != flat[: len(chunks)] != flat[len(chunks) : 2 * len(chunks)]
    # windows of a block lie side by side: each but the last few tokens is a target once
    ends = stream.ends[: next(n for n in range(len(epoch)) if sum(map(len, epoch[: n + 1])) == len(chunks)) + 1]
    assert learnt - len(ends) * (CONTEXT + 1) < ends[-1] * CONTEXT < learnt
    for block, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
        windows = stream.take_windows(np.arange(begin, end))
        tokens, order = stream._loads[block].result()
        told = np.concatenate(windows[np.argsort(order)][:, 1:])
        assert (told == tokens[1 : len(told) + 1]).all()
        text = "".join(name_document(f, r) + "\n\n" for f, _, s, n in epoch[block] for r in place(f, _, s, n))
        assert corpus.tokenizer.decode(tokens) == text


def place(file: int, group: int, start: int, rows: int) -> Iterator[int]:
    """Rows of a chunk that have a text."""
    first = group * GROUP + start
    return (row for row in range(first, first + rows) if row != 9)


def test_a_long_row_group_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    texts = [name_document(0, row) for row in range(300)]
    parquet.write_table(arrow.table({"text": texts}), tmp_path / "one.parquet")
    monkeypatch.setattr(chunk_reader, "ROWS", 32)
    corpus = build(tmp_path / "one.parquet", tmp_path / "cache")
    assert [chunk.start for chunk in corpus.reader.list_chunks(0, corpus.border)[0]] == [*range(JUDGED, 300, 32)]
    in_order = [rows_of(corpus, step) for step in range(100)]
    read = "".join(corpus.tokenizer.decode(row) for step in in_order for row in step)
    assert all(f"<0.{row:03}>" not in read for row in range(JUDGED))
    assert len(corpus.streams[1, CONTEXT]._loads) <= 3
    assert (rows_of(build(tmp_path / "one.parquet", tmp_path / "cache"), 99) == in_order[99]).all()


def test_a_count_that_is_torn_or_missing_is_counted_again(folder: Path, tmp_path: Path):
    in_order = [rows_of(build(folder, tmp_path / "a"), step) for step in (0, 50, 100)]
    (kept,) = (tmp_path / "a").glob("stream-*/counts.jsonl")
    whole = TokenLedger(kept)
    text = kept.read_bytes()
    for size in range(0, len(text), 37):
        kept.write_bytes(text[:size])
        corpus = build(folder, tmp_path / "a")
        assert all((rows_of(corpus, step) == rows).all() for step, rows in zip((0, 50, 100), in_order, strict=True))
        again = TokenLedger(kept)
        assert again.groups == whole.groups
        assert {**whole.tokens, **again.tokens} == {**again.tokens, **whole.tokens}


def test_counts_that_cannot_be_kept_are_told_once_and_cost_nothing_else(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    in_order = [rows_of(build(folder, tmp_path / "a"), step) for step in (0, 50)]
    assert capsys.readouterr().err == ""
    (tmp_path / "b").write_text("no folder")  # where the cache is to be
    corpus = build(folder, tmp_path / "b")
    assert all((rows_of(corpus, step) == rows).all() for step, rows in zip((0, 50), in_order, strict=True))
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r".*/counts.jsonl cannot be written \(.+\), so the counts of what is streamed are lost: ", line)
    assert line.endswith("this run goes on, and if it is resumed the text is counted anew")


def test_a_file_of_counts_that_is_no_text_is_counted_anew(folder: Path, tmp_path: Path):
    rows = rows_of(build(folder, tmp_path), 50)
    (kept,) = tmp_path.glob("stream-*/counts.jsonl")
    kept.write_bytes(b"\xff\xfe" + kept.read_bytes())
    assert (rows_of(build(folder, tmp_path), 50) == rows).all()


# -- runs


def stream_words(folder: Path) -> list[str]:
    knobs = [f"data.path={folder}", f"data.validation_documents={JUDGED}", "data.buffer=64"]
    return ["data=stream", *knobs, "tokenizer=byte", "dropout=0.1", "steps=100"]


def test_a_run_that_is_killed_and_resumed_is_the_run(folder: Path, tmp_path: Path):
    whole = numbers(finished(*tiny(tmp_path / "whole", *stream_words(folder))))
    process = start(*tiny(tmp_path / "killed", *stream_words(folder)))
    runs = tmp_path / "killed" / "runs"
    while not list(runs.glob("*/checkpoints/last.ckpt")):
        assert process.poll() is None, ended(process)
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    ended(process)
    (run,) = runs.iterdir()
    assert not (run / "summary.json").exists()
    # elsewhere, where nothing was counted
    for file in (tmp_path / "killed" / "cache").glob("stream-*/*"):
        file.unlink()
    assert train(f"resume={run}").status == 0
    assert numbers(run) == whole
    (run / "summary.json").unlink()
    (folder / "train" / "1.parquet").unlink()
    assert "learned from another text" in train(f"resume={run}").err


@pytest.mark.slow
def test_two_processes_read_a_stream_as_one_and_one_goes_on_with_it(folder: Path, tmp_path: Path):
    words = ["data=stream", f"data.path={folder}", f"data.validation_documents={JUDGED}", "tokenizer=byte", "steps=30"]
    words += ["metric=[perplexity]", "save_every=10"]
    alone = finished(*tiny(tmp_path / "alone", *words))
    several = ["trainer=ddp", "trainer.devices=2"]
    together = ended(start(*tiny(tmp_path / "together", *words, *several)))
    assert (together.status, together.err) == (0, "data=text does nothing: data=stream stands behind it\n")
    shutil.copytree(together.folder, cut := tmp_path / "together" / "runs" / "cut")
    for file in ("summary.json", "checkpoints/last.ckpt", "evaluation.npz"):
        (cut / file).unlink()
    (cut / "checkpoints" / "previous.ckpt").rename(cut / "checkpoints" / "last.ckpt")
    resumed = finished(f"resume={cut}", "trainer.devices=1")
    for folder_of_one in (together.folder, resumed):
        for row, expected in zip(numbers(folder_of_one)["metrics"], numbers(alone)["metrics"], strict=True):
            assert row == pytest.approx(expected, abs=1e-5)


# -- the hub


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The data set on a server of this machine."""
    package = importlib.import_module("huggingface_hub")
    with serve_hub(folder) as server:
        for name in ("HfApi", "HfFileSystem"):
            monkeypatch.setattr(package, name, partial(getattr(package, name), endpoint=server.url, token=False))
        yield server


def test_rows_of_the_hub_are_those_of_the_files_and_fetched_when_needed(hub: Hub, folder: Path, tmp_path: Path):
    local = build(folder, tmp_path / "local")
    remote = build("owner/name/train", tmp_path / "hub", revision=COMMIT)
    assert np.array_equal(np.asarray(remote.validation), np.asarray(local.validation))
    assert {*hub.asked} == {"train/0.parquet"}
    for step in range(100):
        assert (rows_of(remote, step) == rows_of(local, step)).all()
    assert {*hub.asked} == {*hub.names}
    # resumed: what was counted is not fetched again
    hub.asked.clear()
    again = build("owner/name/train/*.parquet", tmp_path / "hub", revision=COMMIT)
    assert (rows_of(again, 0) == rows_of(local, 0)).all()
    stream = again.streams[1, CONTEXT]
    for load in stream._loads.values():  # one of them is ahead
        load.result()
    needed = {chunk.file for block in stream.blocks[: max(stream._loads) + 1] for chunk in block}
    assert {*hub.asked} == {f"train/{file}.parquet" for file in {0, *needed}}
    assert again.sha256 == remote.sha256 != local.sha256
    assert [*(tmp_path / "hub").rglob("*.parquet")] == []


def test_what_the_hub_cannot_give_is_told(hub: Hub, tmp_path: Path):
    line = refusal(build, "owner/name", tmp_path)
    assert f"say data.revision={COMMIT}, which is today's and has Parquet as data.path=owner/name/train" in line
    line = refusal(build, "owner/name/test", tmp_path, revision=COMMIT)
    assert line.endswith("has no Parquet on the hub at that revision; folders that have: owner/name/train")
    line = refusal(build, "other/name", tmp_path, revision=COMMIT)
    assert line.startswith("data.path=other/name is no file here, and the hub cannot give it (FileNotFoundError)")
    corpus = build("owner/name", tmp_path, revision=COMMIT)
    hub.lost = True
    line = refusal(lambda: [rows_of(corpus, step) for step in range(300)])
    assert ".parquet cannot be read (HfHubHTTPError: " in line
    assert line.endswith("a run that had begun goes on by resume=auto")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("", True), ("a", True), ("a/b", True), ("a/b/c.parquet", True), ("a/*.parquet", True), ("a/b/d", False)],
)
def test_a_folder_a_file_or_a_glob_of_the_hub_is_chosen(pattern: str, expected: bool):
    assert fits("a/b/c.parquet", pattern) is expected


# -- refusals


def test_what_cannot_be_streamed_is_refused(folder: Path, tmp_path: Path):
    said = partial(refusal, build, folder, tmp_path)
    assert "data.revision=null" in said(revision=COMMIT)
    assert "revision=main may be another text tomorrow" in said(revision="main")
    assert "data.column=n holds int64, no text in" in said(column="n")
    assert "has 207 documents; try data.validation_documents=20" in said(validation_documents=207)
    assert "model.context=2000 is longer than the validation split of" in said(context=2000)
    corpus = build(folder, tmp_path, buffer=1)
    line = refusal(corpus.batch, 1, 0, ROWS, 5000)
    assert "model.context=5000 is longer than any 1 documents" in line
    (folder / "train" / "1.parquet").write_bytes(b"PAR1 and then something else")
    assert "1.parquet is not whole Parquet" in refusal(lambda: [rows_of(build(folder, tmp_path), n) for n in range(99)])
    (folder / "rows.jsonl").write_text("{}")
    assert "is not named .parquet" in refusal(build, folder / "rows.jsonl", tmp_path)
