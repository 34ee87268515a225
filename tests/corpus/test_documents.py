"""Laws of a corpus's documents: where they begin in the tokens, and that training and evaluation keep them apart."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import composed
from tiny_runs import finished, summary, tiny, train

from gptlab.config.factory import Factory
from gptlab.corpus.batch import load_batch
from gptlab.corpus.corpus import Corpus, build_corpus, read_windows
from gptlab.corpus.data import Data
from gptlab.corpus.data.huggingface import HuggingFace
from gptlab.corpus.data.shards import Shards
from gptlab.corpus.data.text import Text
from gptlab.corpus.documents import count_tokens_before, locate_bytes, number_documents
from gptlab.corpus.load import select_part
from gptlab.corpus.tokenizer.byte import Byte
from gptlab.corpus.tokenizer.bytepair import Gpt2, Learned
from gptlab.corpus.tokenizer.char import Char
from gptlab.errors import Refused
from gptlab.training.build import build_decoder
from gptlab.training.evaluate import evaluate

TOKENIZERS = {
    "byte": Factory("tokenizer", Byte, {}),
    "char": Factory("tokenizer", Char, {}),
    "gpt2": Factory("tokenizer", Gpt2, {}),
    "bpe": Factory("tokenizer", Learned, {"vocab_size": 270, "train_mb": 1}),
}
DOCUMENTS = [f"Nr. {n}: wörds of 日本 and 🐍s, {'and more ' * (n % 7)}" for n in range(60)]


def build(data: Data, folder: Path, tokenizer: str = "byte", context: int = 8) -> Corpus:
    return build_corpus(data, TOKENIZERS[tokenizer], context, folder / "cache")


def split_documents(corpus: Corpus, split: str) -> list[str]:
    """The texts of a split's documents."""
    tokens, documents = getattr(corpus, split), corpus.documents
    assert documents is not None
    pieces = np.split(tokens[0 : len(tokens)], getattr(documents, split)[1:])
    return [corpus.tokenizer.decode(piece) for piece in pieces]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize(
    ("kind", "between"),
    [("file", "\n"), ("blank_line", "\n\n"), ("blank_line", "\r\n\r\n"), ("endoftext", "<|endoftext|>\n")],
)
@pytest.mark.parametrize("held", [True, False])
def test_the_documents_of_a_text_are_its_tokens_cut_where_they_begin(
    tokenizer: str, kind: Any, between: str, held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if not held:
        monkeypatch.setattr("gptlab.corpus.split.MAX_HELD", 100)
    monkeypatch.setattr("gptlab.corpus.documents.BLOCK", 97)  # a border may be the last token of a block
    folder = tmp_path / "texts"
    folder.mkdir()
    ended = [document + between for document in DOCUMENTS]
    step = 1 if kind == "file" else 25
    for n in range(0, len(ended), step):
        (folder / f"{n:03}.txt").write_text("".join(ended[n : n + step]), newline="")
    corpus = build(Text(path=str(folder), documents=kind, mask_documents=True), tmp_path, tokenizer)
    read = split_documents(corpus, "train") + split_documents(corpus, "validation")
    # one is cut by the border of the splits
    assert "".join(read) == "".join(ended)
    assert len(read) == len(DOCUMENTS) + 1
    assert len(set(read) & set(ended)) >= len(DOCUMENTS) - 1


def test_a_token_that_straddles_a_border_is_of_the_document_before():
    lengths, tokens = np.array([0, 1, 2, 3]), np.array([1, 3, 0, 2, 2])  # bytes 0, 1-3, none, 4-5, 6-7
    assert locate_bytes(tokens, lengths, np.array([0, 1, 2, 4, 5, 6, 7, 8])).tolist() == [0, 1, 2, 2, 4, 4, 5, 5]


def test_rows_are_documents_whatever_stands_in_them(tmp_path: Path):
    rows = [*DOCUMENTS, "with\n\na blank line", ""]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps({'text': row, 'id': 1})}\n" for row in rows))
    corpus = build(HuggingFace(path=str(path), mask_documents=True), tmp_path)
    read = split_documents(corpus, "train") + split_documents(corpus, "validation")
    assert "".join(read) == "\n\n".join(rows)
    assert "with\n\na blank line\n\n" in read


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line 2 of .* is no JSON"),
        ("[1]", "data.column=text is no text in line 2 of .*; it has no texts"),
        ('{"body": "a", "n": 1}', "data.column=text is no text in line 2 of .*; choose from body"),
        (r'{"text": "a\ud800b"}', r"line 2 of .* holds \\ud800, half of a character"),
    ],
)
def test_bad_lines_of_json_are_refused(line: str, problem: str, tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"text": "a"}}\n{line}\n')
    with pytest.raises(Refused, match=problem):
        HuggingFace(path=str(path)).text()


def test_a_folder_of_json_lines_is_read_whatever_they_are_called(tmp_path: Path):
    for name, text in (("a.jsonl", "first"), ("b.ndjson", "second")):
        (tmp_path / name).write_text(json.dumps({"text": text}))
    assert HuggingFace(path=str(tmp_path)).text() == "first\n\nsecond"


def test_a_file_that_is_neither_is_refused_without_its_package(tmp_path: Path):
    (tmp_path / "rows.jsonl.gz").write_bytes(b"\x1f\x8b\x08 and so on")
    with pytest.raises(Refused, match=r"rows\.jsonl\.gz is no Parquet and not named \.jsonl; give a \.parquet"):
        HuggingFace(path=f"{tmp_path}/rows.jsonl.gz").text()


def write_shards(folder: Path) -> Path:
    """Files of tokens in which 0 begins a document: 100 to learn from in two, 60 to be judged by in two."""
    folder.mkdir()
    tokens = np.random.default_rng(0).integers(0, 9, 160).astype("<u2")
    for name, part in zip(("a", "b", "val_0", "val_1"), np.split(tokens, [30, 100, 140]), strict=True):
        part.tofile(folder / f"{name}.bin")
    return folder


def test_separators_and_files_begin_documents_of_tokens(tmp_path: Path):
    folder = write_shards(tmp_path / "tokens")
    corpus = build(Shards(path=str(folder), documents=0, mask_documents=True), tmp_path)
    assert corpus.documents is not None
    wanted = {0, 30, *np.flatnonzero(corpus.train[0:100] == 0).tolist()}
    assert corpus.documents.train is not None
    assert corpus.documents.train.tolist() == sorted(wanted)
    assert {0, 40} < set(corpus.documents.validation.tolist())
    assert corpus.documents.sources == (("val_0", 0), ("val_1", 40))
    with pytest.raises(Refused, match=r"data.documents=300 is no token of the 256"):
        build(Shards(path=str(folder), documents=300), tmp_path)
    with pytest.raises(Refused, match=r"mask_documents=true needs data.documents=<the token between two>"):
        Shards(path=str(folder), mask_documents=True)


@pytest.fixture
def blank_lines(tmp_path: Path) -> Corpus:
    path = tmp_path / "text"
    path.write_text("\n\n".join(DOCUMENTS))
    return build(Text(path=str(path), documents="blank_line", mask_documents=True, validation=0.4), tmp_path)


def test_a_batch_numbers_the_documents_of_its_inputs(blank_lines: Corpus):
    assert blank_lines.documents is not None
    starts = blank_lines.documents.train
    assert starts is not None
    batch = load_batch(blank_lines, seed=3, step=8, rows=6, context=50)
    drawn = blank_lines.batch(3, 8, 6, 50)
    assert batch.documents is not None
    for place, row, numbers in zip(blank_lines._draw_windows(3, 8, 6, 50), drawn, batch.documents, strict=True):
        assert (blank_lines.train[place : place + 51] == row).all()
        assert [int((starts <= place + n).sum()) for n in range(50)] == numbers.tolist()
    parts = batch.split(3)
    assert torch.equal(torch.cat([part.documents for part in parts if part.documents is not None]), batch.documents)
    part = blank_lines.number_batch(3, 8, 6, 50, slice(2, 4))
    assert part is not None
    assert (part == batch.documents[2:4].numpy()).all()


def test_evaluation_scores_each_document_as_if_alone(blank_lines: Corpus):
    small = composed("model.width=24", "model.heads=2", "model.layers=2", "model.context=32")
    made = build_decoder(small, 256).double().eval()
    lengths = blank_lines.tokenizer.lengths()
    whole = evaluate(made, *blank_lines.windows(32), lengths).nats
    # window by window, each cut at the borders that stand in it
    tokens = torch.from_numpy(blank_lines.validation[0 : len(blank_lines.validation)].astype(np.int64))
    assert blank_lines.documents is not None
    borders, alone = blank_lines.documents.validation, []
    for begin in range(0, len(tokens) - 1, 32):
        end = min(begin + 32, len(tokens) - 1)
        cuts = [begin, *borders[(borders > begin) & (borders < end)].tolist(), end]
        for first, last in pairwise(cuts):
            with torch.no_grad():
                logits = made(tokens[None, first:last]).logits
            alone.append(
                torch.nn.functional.cross_entropy(logits[0].float(), tokens[first + 1 : last + 1], reduction="none")
            )
    torch.testing.assert_close(whole, torch.cat(alone))


def test_a_part_of_the_validation_split_has_its_own_documents(blank_lines: Corpus):
    whole = blank_lines.documents
    assert whole is not None
    held = select_part(blank_lines, "held_back", 8)
    opened = select_part(blank_lines, "open", 8)
    assert held.documents is not None
    assert opened.documents is not None
    border = len(opened.validation)
    inside = whole.validation[whole.validation > border] - border
    assert held.documents.validation.tolist() == [0, *inside.tolist()]
    assert opened.documents.validation.tolist() == whole.validation[whole.validation < border].tolist()


def test_tokens_before_are_counted_within_a_document():
    starts = np.array([0, 3, 4])
    assert number_documents(starts, np.arange(6)).tolist() == [1, 1, 1, 2, 3, 3]
    assert count_tokens_before(starts, np.arange(6)).tolist() == [0, 1, 2, 0, 0, 1]


def test_runs_without_borders_keep_their_hash():
    plain = composed("data=text")
    later = {"documents", "mask_documents", "packing"}
    assert later < plain.config["data"].keys()
    without = {key: value for key, value in plain.config["data"].items() if key not in later}
    assert replace(plain, config=plain.config | {"data": without}).hash == plain.hash
    masked = plain.config["data"] | {"mask_documents": True}
    assert replace(plain, config=plain.config | {"data": masked}).hash != plain.hash


def test_a_run_says_the_loss_by_place_in_the_document_and_by_file(tmp_path: Path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.txt").write_text(name.join("\n\n".join(DOCUMENTS).split(" ")))
    asked = ("data.documents=blank_line", "data.mask_documents=true", "data.validation=0.6", f"data.path={folder}")
    run = finished(*tiny(tmp_path, *asked, "steps=3"))
    said = summary(run)
    sources = {key: value for key, value in said.items() if key.startswith("val/loss_source_")}
    assert sorted(sources) == [f"val/loss_source_{name}.txt" for name in "bc"]
    with np.load(run / "evaluation.npz") as arrays:
        counts, means, nats = arrays["targets_by_document_place"], arrays["by_document_place"], arrays["nats"]
    assert counts.sum() == len(nats)
    assert said["val/loss"] == pytest.approx((counts * means).sum() / counts.sum(), abs=1e-6)
    assert said["val/loss_in_document_8"] == pytest.approx(means[4])
    assert min(sources.values()) < said["val/loss"] < max(sources.values())


@pytest.mark.parametrize(("validation", "is_said"), [(0.1, True), (0.6, False)])
def test_a_validation_split_in_one_of_several_files_is_said(validation: float, is_said: bool, tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("\n\n".join(DOCUMENTS) * 4)
    corpus = build(Text(path=f"{tmp_path}/*.txt", documents="file", validation=validation), tmp_path)
    assert ("no loss by file: all that is judged is in one of 2 files" in corpus.describe_size()) == is_said
    assert corpus.documents is not None
    assert (len(corpus.documents.sources) == 0) == is_said


def test_what_cannot_keep_documents_apart_is_refused_before_any_compute(tmp_path: Path):
    done = train(*tiny(tmp_path, "data.mask_documents=true", "attention=moba"))
    assert done.status == 2
    assert "data.mask_documents=true: attention (BlockMixture) cannot keep the documents of a row apart" in done.err


def test_rows_of_parquet_are_documents_over_row_groups_and_shards(tmp_path: Path):
    """As nanochat writes them: a column `text`, some row groups a shard."""
    arrow = pytest.importorskip("pyarrow", reason="pyarrow, of the extra huggingface, is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "shards"
    folder.mkdir()
    for n, part in enumerate((DOCUMENTS[:40], DOCUMENTS[40:])):
        table = arrow.table({"text": part})
        parquet.write_table(table, folder / f"shard_{n:05}.parquet", row_group_size=16, compression="zstd")
    corpus = build(HuggingFace(path=str(folder), mask_documents=True, validation=0.5), tmp_path)
    read = split_documents(corpus, "train") + split_documents(corpus, "validation")
    assert "".join(read) == "\n\n".join(DOCUMENTS)
    assert {f"{document}\n\n" for document in DOCUMENTS[1:25]} < set(read)
    assert corpus.documents is not None
    assert [name for name, _ in corpus.documents.sources] == ["shard_00000.parquet", "shard_00001.parquet"]


def test_what_reads_windows_without_borders_refuses_masked_documents(blank_lines: Corpus):
    with pytest.raises(Refused, match=r"data.mask_documents=true: this study reads windows as they stand; say"):
        read_windows(blank_lines, 8, 64)
