"""Laws of best-fit packing: every token once, no document cut that fits, and batches of (seed, step) alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import composed
from tiny_runs import finished, rows, tiny, train

from gptlab.config.factory import Factory
from gptlab.corpus.corpus import Corpus, build_corpus
from gptlab.corpus.data.text import Text
from gptlab.corpus.datamodule import DataModule, load_batch
from gptlab.corpus.packing import Packing, fit_best, pack_documents
from gptlab.corpus.tokenizer.byte import Byte
from gptlab.model.shape import IGNORED
from gptlab.training.build import build_decoder

CONTEXT = 16


def draw_starts(count: int = 300, longest: int = 50) -> tuple[np.ndarray, int]:
    """Where documents of 1 to `longest` tokens begin, and how many tokens they have."""
    sizes = np.random.default_rng(0).integers(1, longest + 1, count)
    return np.concatenate([[0], sizes.cumsum()[:-1]]), int(sizes.sum())


def list_rows(packing: Packing) -> list[list[tuple[int, int]]]:
    """The pieces of each row: first token and length."""
    pieces = [*zip(packing.firsts.tolist(), packing.lengths.tolist(), strict=True)]
    return [pieces[begin:end] for begin, end in zip([0, *packing.ends[:-1]], packing.ends, strict=True)]


def fit_best_naively(sizes: list[int], capacity: int) -> list[list[int]]:
    """The sizes in each bin: the longest item first, into the fullest bin that has room."""
    bins: list[list[int]] = []
    for size in sorted(sizes, reverse=True):
        able = [items for items in bins if sum(items) + size <= capacity]
        if able:
            max(able, key=sum).append(size)
        else:
            bins.append([size])
    return bins


@pytest.mark.parametrize("capacity", [7, 16, 61])
def test_bins_are_filled_as_the_naive_rule_fills_them(capacity: int):
    sizes = np.random.default_rng(1).integers(1, capacity + 1, 400)
    bins = fit_best(sizes, capacity)
    made = [sorted(sizes[bins == number].tolist()) for number in range(bins.max() + 1)]
    # bins that are as full as each other may be taken in another order
    assert sorted(map(sum, made)) == sorted(map(sum, fit_best_naively(sizes.tolist(), capacity)))
    assert max(map(sum, made)) <= capacity


def test_every_token_stands_in_one_row_and_no_document_that_fits_is_cut():
    starts, count = draw_starts()
    packing = pack_documents(starts, count, CONTEXT)
    made = list_rows(packing)
    covered = np.concatenate([np.arange(first, first + length) for row in made for first, length in row])
    assert (np.sort(covered) == np.arange(count)).all()
    assert max(sum(length for _, length in row) for row in made) <= CONTEXT
    pieces = {piece for row in made for piece in row}
    for start, size in zip(starts.tolist(), np.diff(starts, append=count).tolist(), strict=True):
        wanted = [(start + cut, min(CONTEXT, size - cut)) for cut in range(0, size, CONTEXT)]
        assert set(wanted) <= pieces
    assert packing.fill == pytest.approx(count / (len(made) * CONTEXT))
    assert packing.fill > 0.95


def test_rows_say_where_each_token_comes_from():
    packing = pack_documents(np.array([0, 3, 21, 26]), 28, 8)
    assert list_rows(packing) == [[(3, 8)], [(11, 8)], [(0, 3), (21, 5)], [(19, 2), (26, 2)]]
    positions, numbers = packing.place_rows(np.array([3, 2]))
    assert positions.tolist() == [[19, 20, 26, 27, -1, -1, -1, -1], [0, 1, 2, 21, 22, 23, 24, 25]]
    assert numbers.tolist() == [[0, 0, 1, 1, 2, 2, 2, 2], [0, 0, 0, 1, 1, 1, 1, 1]]


@pytest.fixture
def packed(tmp_path: Path) -> Corpus:
    path = tmp_path / "text"
    sizes = np.random.default_rng(0).integers(1, 30, 200)
    path.write_text("\n\n".join("".join(chr(97 + (n + k) % 26) for k in range(size)) for n, size in enumerate(sizes)))
    data = Text(path=str(path), documents="blank_line", mask_documents=True, packing="best_fit")
    return build_corpus(data, Factory("tokenizer", Byte, {}), CONTEXT, tmp_path / "cache")


def test_targets_are_the_next_tokens_of_the_corpus_and_padding_asks_for_nothing(packed: Corpus):
    assert packed.packing is not None
    batch = load_batch(packed, seed=3, step=8, rows=12, context=CONTEXT)
    again = load_batch(packed, seed=3, step=8, rows=12, context=CONTEXT)
    other = load_batch(packed, seed=3, step=9, rows=12, context=CONTEXT)
    assert torch.equal(batch.inputs, again.inputs)
    assert not torch.equal(batch.inputs, other.inputs)
    seen = 0
    text, documents = packed.train[0 : len(packed.train)].tolist(), batch.documents
    assert documents is not None
    for inputs, targets, numbers in zip(batch.inputs.tolist(), batch.targets.tolist(), documents.tolist(), strict=True):
        for number in set(numbers):
            piece = [n for n in range(CONTEXT) if numbers[n] == number]
            asked = [targets[n] for n in piece]
            if asked[0] == IGNORED:
                assert set(asked) == {IGNORED}
                continue
            seen += 1
            joined = [inputs[piece[0]], *asked]
            assert [inputs[n] for n in piece] == joined[:-1]
            assert any(text[n : n + len(joined)] == joined for n in range(len(text)))
    assert seen > 12


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_parts_of_a_batch_weigh_what_they_ask(packed: Corpus, accumulate: int):
    made = build_decoder(composed("model.width=24", "model.heads=2", "model.layers=2", "model.context=16"), 256)
    made = made.double().eval()
    batch = load_batch(packed, seed=3, step=8, rows=6, context=CONTEXT)
    whole = made(batch.inputs, batch.targets, documents=batch.documents).loss
    parts = [
        part.weight * made(part.inputs, part.targets, documents=part.documents).loss for part in batch.split(accumulate)
    ]
    torch.testing.assert_close(sum(parts) / accumulate, whole)
    # of two processes each has its half
    module = DataModule(packed, seed=3, batch_size=6, context=CONTEXT)
    halves = [module.load_part(8, rank, 2) for rank in range(2)]
    assert torch.equal(torch.cat([half.inputs for half in halves]), batch.inputs)


def test_a_run_learns_from_packed_rows(tmp_path: Path):
    path = tmp_path / "text"
    path.write_text("\n\n".join(f"{n} is followed by {n + 1}" for n in range(400)))
    asked = (f"data.path={path}", "data.documents=blank_line", "data.mask_documents=true", "data.packing=best_fit")
    run = finished(*tiny(tmp_path, *asked, "steps=20", "accumulate=2"))
    losses = [row["train/loss"] for row in rows(run / "metrics.jsonl") if "train/loss" in row]
    assert losses[-1] < losses[0]
    assert "documents, each read as if alone, packed into" in (run / "log.txt").read_text()


def test_rows_of_whole_documents_want_borders(tmp_path: Path):
    done = train(*tiny(tmp_path, "data.packing=best_fit"))
    assert done.status == 2
    assert "packing=best_fit needs mask_documents=true: the documents of a row know nothing of each other" in done.err
