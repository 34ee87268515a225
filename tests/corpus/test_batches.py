"""Laws of batches and evaluation windows: which tokens, when, and each how often."""

from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from gptlab.config.factory import Factory
from gptlab.corpus.batch import Batch
from gptlab.corpus.corpus import Corpus, build_corpus
from gptlab.corpus.data import Data
from gptlab.corpus.datamodule import DataModule
from gptlab.corpus.load import select_part
from gptlab.corpus.token_files import JoinedTokens, join_tokens, take_windows
from gptlab.corpus.tokenizer.byte import Byte
from gptlab.errors import Refused
from gptlab.model.shape import IGNORED


def corpus(train: int = 500, validation: int = 101) -> Corpus:
    """Tokens that tell where they stand."""
    return Corpus(np.arange(train), np.arange(1000, 1000 + validation), Byte("", ""), "")


def windows(made: Corpus, context: int, tokens: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """All inputs and targets at once."""
    inputs, targets = made.windows(context, tokens)
    assert inputs.shape == targets.shape == (len(inputs), context)
    return inputs[:], targets[:]


def test_batch_is_a_function_of_seed_and_step():
    first, same = corpus(), corpus()
    assert (first.batch(3, 8, 6, 10) == same.batch(3, 8, 6, 10)).all()
    assert (first.batch(3, 8, 6, 10)[:2] == same.batch(3, 8, 2, 10)).all()
    assert (first.batch(3, 8, 6, 10) != same.batch(3, 9, 6, 10)).any()
    assert (first.batch(3, 8, 6, 10) != same.batch(4, 8, 6, 10)).any()
    assert first.batch(-1, 2**63, 6, 10).shape == (6, 11)


def test_rows_are_runs_of_the_text_from_its_start_to_its_end():
    rows = np.concatenate([corpus(train=30).batch(0, step, 16, 10) for step in range(50)])
    assert (np.diff(rows, axis=1) == 1).all()
    assert set(rows[:, 0]) == set(range(20))
    assert rows.max() == 29


@pytest.mark.parametrize("rows", [2, 8, 12, 64])
def test_steps_share_no_rows_but_by_chance(rows: int):
    long = corpus(train=2_000_000)
    starts = [set(long.batch(0, step, rows, 1)[:, 0]) for step in range(40)]
    shared = sum(len(one & other) for n, one in enumerate(starts) for other in starts[:n])
    chance = rows**2 * 40 * 39 / 2 / 2_000_000
    assert shared <= 5 + 3 * chance


def test_all_places_are_equally_likely():
    starts = np.concatenate([corpus(train=26).batch(0, step, 32, 16)[:, 0] for step in range(1000)])
    counts = np.bincount(starts, minlength=10)
    assert ((counts - 3200) ** 2 / 3200).sum() < 27.9  # chi-squared of 9 degrees: one seed in a thousand


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_feed_gives_the_same_batches_in_micro_batches_from_any_step(accumulate: int):
    feed = DataModule(corpus(), seed=5, batch_size=6, context=10, accumulate=accumulate)
    feed.trainer = type("Trainer", (), {"global_step": 7, "global_rank": 0, "world_size": 1})()  # type: ignore[assignment]
    micro: list[Batch] = list(islice(feed, 2 * accumulate))
    assert [len(one.inputs) for one in micro] == [6 // accumulate] * 2 * accumulate
    whole = np.concatenate([corpus().batch(5, step, 6, 10) for step in (7, 8)])
    assert (np.concatenate([one.inputs for one in micro]) == whole[:, :-1]).all()
    assert (np.concatenate([one.targets for one in micro]) == whole[:, 1:]).all()


@pytest.mark.parametrize("validation", [2, 97, 100, 101, 102])
@pytest.mark.parametrize("context", [1, 3, 16, 50, 100, 101, 1000])
def test_windows_score_every_token_after_the_first_once(validation: int, context: int):
    inputs, targets = windows(corpus(validation=validation), context)
    scored = targets != IGNORED
    assert (targets[scored] == np.arange(1001, 1000 + validation)).all()
    assert (inputs[scored] == targets[scored] - 1).all()
    assert inputs.shape == targets.shape == (-(-(validation - 1) // context), context)


@pytest.mark.parametrize("context", [1, 3, 16, 33])
@pytest.mark.parametrize("tokens", [1, 30, 64, 99, 100, 10**6])
def test_interim_windows_are_spread_whole_and_always_the_same(context: int, tokens: int):
    inputs, targets = windows(corpus(), context, tokens)
    assert (inputs == windows(corpus(), context, tokens)[0]).all()
    assert len(np.unique(inputs[:, 0])) == len(inputs)
    every = windows(corpus(), context)[0]
    assert len(inputs) == min(len(every), -(-tokens // context))
    assert len(inputs) == len(every) or (targets != IGNORED).all()
    gaps = np.diff(inputs[:, 0]) // context
    assert len(inputs) < 3 or gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("context", [4, 8, 16, 32])
def test_stretches_hold_the_same_tokens_for_all_contexts_that_divide_them(context: int):
    long = corpus(validation=5001)
    targets = windows(long, context, 512)[1] if context == 32 else long.windows(context, 512, 32)[1][:]
    assert np.unique(targets).size == 512
    assert np.array_equal(np.sort(targets.ravel()), np.sort(windows(long, 32, 512)[1].ravel()))


def test_windows_taken_in_parts_are_the_windows():
    made = corpus()
    for whole, part in zip(windows(made, 7), made.windows(7), strict=True):
        assert whole.dtype == np.int64
        assert (np.concatenate([part[start : start + 4] for start in range(0, len(part), 4)]) == whole).all()


@pytest.mark.parametrize("sizes", [[500], [1, 499], [200, 100, 200], [13] * 38 + [6]])
def test_files_joined_are_one_row(sizes: list[int]):
    parts = np.split(np.arange(500, dtype=np.uint16), np.cumsum(sizes)[:-1])
    made, whole = Corpus(JoinedTokens(parts), JoinedTokens(parts), Byte(), ""), corpus()
    assert len(made.train) == 500
    assert (made.batch(3, 8, 6, 10) == whole.batch(3, 8, 6, 10)).all()
    for rows in (slice(0, 2), slice(2, 4), slice(4, 6)):  # what each of three processes reads
        assert (made.batch(3, 8, 6, 10, rows) == whole.batch(3, 8, 6, 10)[rows]).all()
    starts = np.arange(470)  # over every border
    assert (take_windows(made.train, starts, 30) == take_windows(whole.train, starts, 30)).all()
    assert all((made.train[a:b] == whole.train[a:b]).all() for a, b in ((None, 3), (150, 320), (0, 600), (9, 9)))
    assert (windows(made, 7)[1] == windows(Corpus(whole.train, whole.train, Byte(), ""), 7)[1]).all()


def test_a_text_no_longer_than_the_context_is_refused(tmp_path: Path):
    class Ten(Data):
        def text(self) -> str:
            return "x" * 20

    byte = Factory("tokenizer", Byte, {})
    made = build_corpus(Ten(validation=0.5), byte, 9, tmp_path)
    assert len(made.train) == len(made.validation) == 10
    with pytest.raises(Refused, match=r"model.context=10 is longer than the training split of 10 tokens; try"):
        build_corpus(Ten(validation=0.5), byte, 10, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pieces", [1, 3])
def test_the_open_and_the_held_back_part_are_the_validation_split_in_two(pieces: int):
    tokens = np.arange(100, dtype=np.uint16)
    validation = join_tokens(np.array_split(tokens, pieces))
    whole = Corpus(tokens, validation, cast(Any, None), "")
    assert select_part(whole, "all", 8) is whole
    parts = [select_part(whole, part, 8).validation for part in ("open", "held_back")]
    assert [len(part) for part in parts] == [75, 25]
    assert np.concatenate([part[:] for part in parts]).tolist() == tokens.tolist()
    with pytest.raises(Refused, match=r"evaluation.part=held_back has 25 of the 100 validation tokens"):
        select_part(whole, "held_back", 25)
