"""Laws of the final measures: by position and by history, nothing is counted twice; samples are timed and judged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SIZES, choices, composed, decoder, tokens
from tiny_runs import Done, finished, rows, summary, tiny, train

from gptlab.training.build import build_decoder
from gptlab.training.final_evaluation import (
    average_by_position,
    choose_history_windows,
    compute_position_table,
    measure_overlap,
)

HISTORY = [f"val/loss_at_{contexts}x" for contexts in (1, 2, 4)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A small run that writes each sample alone."""
    return train(*tiny(tmp_path_factory.mktemp("one"), "sample.count=3", "sample.one_by_one=true", "sample.length=20"))


# -- by position


@pytest.mark.parametrize("scored", [4, 7, 8, 40])
def test_places_of_a_window_add_up_to_all_targets(scored: int):
    nats = np.random.default_rng(0).random(scored)
    means, counts = average_by_position(nats, np.arange(len(nats)) % 4, 4)
    assert counts.sum() == scored
    assert (means * counts).sum() == pytest.approx(nats.sum())
    assert means[1] == pytest.approx(nats[1::4].mean())


def test_a_run_keeps_the_loss_by_position(done: Done):
    kept = np.load(done.folder / "evaluation.npz")
    means, counts = kept["by_position"], kept["targets_by_position"]
    assert means.shape == counts.shape == (16,)
    assert (means * counts).sum() / counts.sum() == pytest.approx(summary(done.folder)["val/loss"], rel=1e-6)


# -- by history


@pytest.mark.parametrize(
    ("length", "context", "budget"), [(400, 16, 64), (400, 16, 10_000), (65, 16, 64), (999, 7, 50)]
)
def test_windows_have_their_history_and_share_no_target(length: int, context: int, budget: int):
    numbers = np.arange(-(-(length - 1) // context))
    chosen = choose_history_windows(numbers, length, context, budget)
    assert chosen[0] == 3
    assert (chosen[-1] + 1) * context < length
    assert (np.diff(chosen) >= 1).all()
    assert len(chosen) == min(budget // context, 1 + (length - 1 - 4 * context) // context)
    some = np.arange(0, len(numbers), 2)  # as where a part of the split is scored
    assert (some[choose_history_windows(some, length, context, budget)] >= 3).all()


def test_a_decoder_without_sight_of_the_past_gains_nothing_from_it(tmp_path: Path):
    found = summary(finished(*tiny(tmp_path, "attention=swa", "attention.window=1", "position=nope")))
    assert found[HISTORY[0]] == pytest.approx(found[HISTORY[1]]) == pytest.approx(found[HISTORY[2]])


def test_history_changes_the_loss_of_the_same_targets(done: Done):
    found = summary(done.folder)
    values = [found[key] for key in HISTORY]
    assert len(set(values)) == 3
    assert "val/loss_at_missing" not in found
    assert values[0] == pytest.approx(found["val/loss"], rel=0.2)


@pytest.mark.parametrize(
    ("more", "there", "why"),
    [
        ("position=learned", HISTORY[:1], "the position knows 16 places alone"),
        ("model.context=40", [], "the validation split is no longer than 4 contexts"),
        (
            *("evaluation.final=1", []),
            "no window that is scored has 3 contexts of text before it: evaluation.final is too small",
        ),
    ],
)
def test_what_cannot_be_measured_is_left_out_with_the_reason(tmp_path: Path, more: str, there: list[str], why: str):
    found = summary(finished(*tiny(tmp_path, more, "steps=2")))
    assert [key for key in HISTORY if key in found] == there
    assert found["val/loss_at_missing"] == why


def test_a_part_of_the_split_is_scored_where_that_is_asked_for_and_said(tmp_path: Path):
    folder = finished(*tiny(tmp_path, "steps=2", "evaluation.final=64"))
    found = summary(folder)
    assert found["scored_tokens"] == len(np.load(folder / "evaluation.npz")["nats"]) == 64
    assert found[HISTORY[0]] == pytest.approx(found["val/loss"], rel=0.3)


@pytest.mark.parametrize("position", choices("position"))
def test_a_position_goes_as_far_as_it_says(position: str):
    made = decoder(f"position={position}", (*SIZES, "model.context=8", "model.layers=1"))
    length = made.position.length
    with torch.no_grad():
        logits = made(tokens(1, length or 32)).logits
    assert logits.isfinite().all()
    if length is not None:
        with pytest.raises(IndexError):
            made(tokens(1, length + 1))


# -- samples


def test_samples_alone_have_their_own_seed_seconds_and_score(done: Done):
    found, samples = summary(done.folder), [row for row in rows(done.folder / "samples.jsonl") if "seconds" in row]
    assert [row["seed"] for row in samples] == [0, 1, 2]
    assert len({row["text"] for row in samples}) == 3
    assert sum(row["seconds"] for row in samples) == pytest.approx(found["time/generate_cached_s"])
    assert np.mean([row["word_accuracy"] for row in samples]) == pytest.approx(found["val/word_accuracy"])


def test_words_stand_between_floor_and_ceiling_and_in_their_interval(done: Done):
    found = summary(done.folder)
    low, value, high = (found[f"val/word_accuracy{what}"] for what in ("_low", "", "_high"))
    assert 0 <= low <= value <= high <= 1
    assert 0 <= found["val/word_accuracy_floor"] < found["val/word_accuracy_ceiling"] <= 1
    said = f"word accuracy {value:.2f} (floor {found['val/word_accuracy_floor']:.2f}, ceiling "
    assert said in done.out


def test_both_ways_of_writing_are_timed_and_the_way_kept_is_a_setting(done: Done, tmp_path: Path):
    more = ("sample.count=3", "sample.one_by_one=true", "sample.length=16", "sample.temperature=0")
    folders = [finished(*tiny(tmp_path, *more, f"sample.cached={cached}")) for cached in ("true", "false")]
    first, second = (rows(folder / "samples.jsonl") for folder in folders)
    assert [row["text"] for row in first] == [row["text"] for row in second]  # the context holds them: the same
    for folder in folders:
        found = summary(folder)
        assert 0 < found["time/generate_cached_s"] < found["time/total_s"]
        assert 0 < found["time/generate_uncached_s"] < found["time/total_s"]


def test_samples_in_one_batch_are_written_once_and_a_token_is_timed_both_ways(tmp_path: Path):
    found = summary(finished(*tiny(tmp_path, "sample.count=3")))
    assert 0 < found["time/generate_cached_s"] < found["time/samples_s"]
    assert "time/generate_uncached_s" not in found
    assert 0 < found["time/generate_ms_per_token"] / 1000 < found["time/samples_s"]
    assert 0 < found["time/generate_uncached_ms_per_token"] / 1000 < found["time/samples_s"]


def test_losses_at_one_context_are_those_of_the_pass_over_the_whole_split(done: Done):
    nats = np.load(done.folder / "evaluation.npz")["nats"]
    windows = np.arange(-(-len(nats) // 16))
    chosen = choose_history_windows(windows, len(nats) + 1, 16, 64 // 4)
    of_windows = nats[chosen[:, None] * 16 + np.arange(16)]
    assert summary(done.folder)[HISTORY[0]] == pytest.approx(of_windows.mean(), rel=1e-6)


# -- positions and tokens


@pytest.mark.parametrize("position", ["learned", "learned_concat", "sinusoidal"])
def test_positions_and_tokens_share_all_directions_with_themselves_and_few_by_chance(position: str):
    decoder = build_decoder(composed("model=nano", f"position={position}"), 61)
    table = compute_position_table(decoder)
    assert table is not None
    found = measure_overlap(decoder, table)
    assert found["position/overlap_chance"] == 8 / 64
    assert 0 <= found["position/overlap"] < 0.5
    weight = decoder.embedding.weight
    assert measure_overlap(decoder, weight if position != "learned_concat" else told(decoder))["position/overlap"] == (
        pytest.approx(1)
    )


def told(made: Any) -> Any:
    """What a token adds to the stream where it is joined with its position."""
    return made.embedding.weight @ made.position.mix.weight[:, : made.shape.width].T
