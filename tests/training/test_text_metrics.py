"""Laws of what judges texts: words are what the definition says, references are whole, floor and ceiling hold it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from conftest import choices, composed
from test_data import CANONICAL, needs_canonical

from gptlab.config.factory import factory
from gptlab.config.menu import read_choice
from gptlab.corpus.corpus import Corpus
from gptlab.corpus.tokenizer.byte import Byte
from gptlab.corpus.tokenizer.char import Char
from gptlab.training.metric import TextMetric
from gptlab.training.metric.word_accuracy import WordAccuracy
from gptlab.training.reference_texts import ReferenceTexts
from gptlab.training.samples import bootstrap_interval

TRAIN = "The cat sat; the dog's-tail! Is it? A cat\n"
VALIDATION = "the bird sat\n"


def read(split: str) -> Iterator[str]:
    """A text in parts that cut words."""
    text = TRAIN if split == "train" else VALIDATION
    return (text[start : start + 3] for start in range(0, len(text), 3))


def score(text: str, **knobs: Any) -> float:
    """The accuracy of a text beside the cat."""
    return WordAccuracy(read, **knobs).score(text)


# -- word accuracy


def test_words_of_a_reference_survive_the_cuts_between_its_parts():
    words = {"The", "cat", "sat", "the", "dog", "s", "tail", "Is", "it", "A"}
    assert WordAccuracy(read).reference_words == words
    assert WordAccuracy(read, reference="all").reference_words == words | {"bird"}
    assert WordAccuracy(read, lowercase=True).reference_words == {word.lower() for word in words}
    assert WordAccuracy(read, drop_empty=False).reference_words == words | {""}


@pytest.mark.parametrize(
    ("text", "knobs", "wanted"),
    [
        ("the bird sat ", {}, 2 / 3),
        ("the the bird ", {}, 2 / 3),
        ("the the bird ", {"mode": "set"}, 1 / 2),
        ("the bird ", {"reference": "all"}, 1.0),
        ("THE bird ", {"lowercase": True}, 1 / 2),
        ("THE bird ", {}, 0.0),
        ("the ca", {}, 1.0),
        ("the ca", {"drop_last_partial": False}, 1 / 2),
        ("dog's, $cat\n", {}, 2 / 3),
        (" bird ", {"drop_empty": False, "mode": "set"}, 1 / 2),
        (" bird ", {}, 0.0),
        (" ... ", {}, 0.0),
        ("", {}, 0.0),
    ],
)
def test_accuracy_is_the_share_of_words_that_are_known(text: str, knobs: dict[str, Any], wanted: float):
    assert score(text, **knobs) == pytest.approx(wanted)


def test_the_original_rule_is_a_setting():
    node = composed("metric=[word_accuracy_original]").config["metric"]["word_accuracy_original"]
    metric = factory(node, "metric")(read)
    text = "Hark! the bird's nes"
    parts = {"", "Hark", "the", "bird", "s", "nes"}  # the newline before it makes the empty word
    assert metric.score(text) == pytest.approx(len(parts & {"", "the", "bird", "s"}) / len(parts))


def test_a_metric_of_texts_is_the_mean_over_them_and_forgets():
    metric = WordAccuracy(read)
    metric.update(["the bird "])
    metric.update(["the cat ", "bird "])
    assert metric.compute().item() == pytest.approx((0.5 + 1 + 0) / 3)
    metric.reset()
    metric.update(["the cat "])
    assert metric.compute().item() == 1.0


@pytest.fixture(scope="module")
def shakespeare() -> Corpus:
    """The canonical file, by characters, cut at nine tenths."""
    text = CANONICAL.read_text()
    cut = int(len(text) * 0.9)
    char = Char(text)
    return Corpus(char.encode(text[:cut]), char.encode(text[cut:]), char, "")


@needs_canonical
def test_words_of_shakespeare_are_as_many_as_the_definition_counts(shakespeare: Corpus):
    texts = ReferenceTexts(shakespeare)
    assert len(WordAccuracy(texts.read).reference_words) == 12_558
    with_empty_word = WordAccuracy(texts.read, drop_empty=False, reference="all")
    assert len(with_empty_word.reference_words) == 13_321
    assert len(WordAccuracy(texts.read, drop_empty=False, reference="all", lowercase=True).reference_words) == 11_456


@needs_canonical
@pytest.mark.parametrize(
    ("length", "once", "often", "blind_once"), [(100, 0.899, 0.901, 0.18), (1000, 0.928, 0.933, 0.11)]
)
def test_real_text_and_blind_text_score_what_was_measured(
    shakespeare: Corpus, length: int, once: float, often: float, blind_once: float
):
    texts, random = ReferenceTexts(shakespeare), np.random.default_rng(0)
    text = CANONICAL.read_text()[len(shakespeare.train) :]
    windows = [text[at : at + length] for at in random.integers(0, len(text) - length, 1000)]
    blind = texts.random_texts(300, length)
    found = {}
    for mode in ("set", "multiset"):
        metric = WordAccuracy(texts.read, mode=mode, drop_last_partial=False)
        found[mode] = [np.mean([metric.score(one) for one in some]) for some in (windows, blind)]
    assert found["set"] == pytest.approx([once, blind_once], abs=0.012)
    assert found["multiset"] == pytest.approx([often, 0.195], abs=0.012)


# -- floor, ceiling, interval


def corpus(tokenizer: Any) -> Corpus:
    """A small text with characters of one to four bytes."""
    text = "To be, or nöt to be: 🐍\nthat is\n" * 30
    cut = 400
    made = tokenizer(text)
    return Corpus(made.encode(text[:cut]), made.encode(text[cut:]), made, "")


@pytest.mark.parametrize("tokenizer", [Char, Byte])
@pytest.mark.parametrize("chunk", [1, 7, 2**16])
def test_a_split_is_read_as_it_was_written(tokenizer: Any, chunk: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gptlab.training.reference_texts.CHUNK", chunk)
    made = corpus(tokenizer)
    texts = ReferenceTexts(made)
    for split in ("train", "validation"):
        assert "".join(texts.read(split)) == made.tokenizer.decode(getattr(made, split))


def test_blind_texts_know_the_shares_alone_and_real_ones_begin_where_samples_do():
    made = corpus(Char)
    texts, newline = ReferenceTexts(made), int(made.tokenizer.encode("\n")[0])
    blind, real = texts.random_texts(20, 50), texts.validation_texts(20, 50, after=newline)
    assert [len(text) for text in (*blind, *real)] == [50] * 40
    assert (blind, real) == (
        ReferenceTexts(made).random_texts(20, 50),
        ReferenceTexts(made).validation_texts(20, 50, after=newline),
    )
    assert all(text.startswith(("To be", "that")) for text in real)
    assert not any("To be" in text for text in blind)
    assert len(texts.validation_texts(3, 10_000, after=newline)) == 3


def test_the_interval_holds_the_mean_and_shrinks_with_more_texts():
    scores = np.random.default_rng(1).random(400)
    (low, high), (narrow, wide) = bootstrap_interval(scores), bootstrap_interval(scores[:25])
    assert low < scores.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * scores.std() / 20, rel=0.1)
    assert wide - narrow > 2 * (high - low)
    assert bootstrap_interval(np.ones(3)) == (1.0, 1.0)


OF_TEXT = [choice for choice in choices("metric") if "path" not in read_choice("metric", choice)]
"""Metrics without files of tasks, which ask a decoder: tests/commands/test_evaluate.py."""


@pytest.mark.parametrize("choice", OF_TEXT)
def test_every_metric_is_a_number_of_what_it_judges(choice: str):
    from gptlab.training.metric import AnswerMetric, Scores

    made = factory(composed(f"metric=[{choice}]").config["metric"][choice], "metric")
    target: Any = made.target
    if issubclass(target, TextMetric):
        metric, worth = made(read), [["the cat ", "sat "], ["zzz ", "yyy "]]
        for texts in worth:
            metric.update(texts)
    elif issubclass(target, AnswerMetric):
        pytest.skip("asks a decoder: tests/corpus/test_tasks.py")
    else:
        metric = made()
        for _ in range(2):
            metric.update(Scores(torch.tensor([0.5, 1.5]), *torch.tensor([[1, 2], [1, 3], [1, 2]])))
    assert np.isfinite(float(metric.compute()))
