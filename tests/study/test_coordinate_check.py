"""Laws of the coordinate check: muP passes over the width, CompleteP over the depth too, the standard one fails."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import composed
from scipy import stats

from gptlab.errors import Refused
from gptlab.report.measurement import build_measurement_report, summarize_measurements
from gptlab.report.model import Figure
from gptlab.stats.elasticity import Slope, fit_slope, judge_slope
from gptlab.stats.measurements import Measurements, judge_coordinates, summarize_rows
from gptlab.stats.study_plan import StudyPlan
from gptlab.study.coordinate_check import CoordinateCheck, record_activations, set_width
from gptlab.training.build import build_decoder

NANO = ("model.width=64", "model.heads=4", "model.layers=2", "model.context=16", "model.lr=4e-3")
KNOBS = {"tolerance": 0.25, "steps": 5, "draws": 2}


def check(study: CoordinateCheck, *parametrizations: str, words: tuple[str, ...] = ()) -> Measurements:
    """Everything but the folder."""
    arms = {f"parametrization={p}": composed(*NANO, *words, f"parametrization={p}") for p in parametrizations}
    study.check(arms)
    rows = study(arms, 0, build_decoder, Path())
    plan = StudyPlan(study="check", kind="coordinate_check", knobs=KNOBS)
    return summarize_rows(plan, rows)


@pytest.fixture(scope="module")
def over_width() -> Measurements:
    return check(CoordinateCheck(widths=[64, 128, 256], depths=[], draws=2, vocab=31), "standard", "mup")


def test_mup_passes_over_the_width_and_the_standard_parametrization_fails(over_width: Measurements):
    standard, mup = judge_coordinates(over_width)
    assert standard.startswith("**standard** fails over width: ")
    assert "grows as width^" in standard
    assert mup.startswith("**mup** passes over width: no slope is beyond 0.25")


def test_completep_passes_over_the_depth_where_mup_fails():
    study = CoordinateCheck(widths=[], depths=[4, 8, 16], draws=2, vocab=31)
    mup, completep = judge_coordinates(check(study, "mup", "completep"))
    assert mup.startswith("**mup** fails over depth: ")
    assert completep.startswith("**completep** passes over depth")


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["lion", "adopt", "schedule_free", "sgd", "muon"])
def test_mup_passes_under_every_optimizer_that_it_scales(optimizer: str):
    study = CoordinateCheck(widths=[64, 128, 256], depths=[], draws=3, vocab=31)
    (line,) = judge_coordinates(check(study, "mup", words=(f"optimizer={optimizer}",)))
    assert line.startswith("**mup** passes over width"), line


@pytest.mark.slow
def test_normuon_does_not_fail_where_a_batch_has_fewer_tokens_than_the_width():
    """Of 64 tokens its steps have 64 large singular values at most, and are brought to the size of a full rank."""
    study = CoordinateCheck(widths=[64, 128, 256], depths=[], draws=3, vocab=31)
    (line,) = judge_coordinates(check(study, "mup", words=("optimizer=normuon",)))
    assert " fails " not in line, line


@pytest.mark.slow
@pytest.mark.parametrize("word", ["attention=mla", "mlp=moe", "residual=sandwich", "readout=untied", "init=gpt2"])
def test_mup_passes_with_other_parts(word: str):
    study = CoordinateCheck(widths=[64, 128, 256], depths=[], draws=3, vocab=31)
    (line,) = judge_coordinates(check(study, "mup", words=(word,)))
    assert line.startswith("**mup** passes over width"), line


def test_the_page_draws_every_arm_over_every_size(over_width: Measurements):
    report = build_measurement_report(over_width)
    slopes, *curves = [part for section in report.sections for part in section.items if isinstance(part, Figure)]
    assert slopes.title == "slope of the change over width"
    assert [len(trace["x"]) for trace in slopes.data] == [5, 5]  # embedding, attention, MLP, stream, logits
    assert {figure.title for figure in curves} == {
        f"{arm}: {of} over width of the stream" for arm in ("standard", "mup") for of in ("size", "change")
    }
    assert {len(figure.data) for figure in curves} == {5}
    assert [str(sentence) for sentence in summarize_measurements(over_width)] == [
        line.replace("**", "") for line in judge_coordinates(over_width)
    ]


def test_a_slope_is_that_of_least_squares_and_its_interval_holds_the_truth():
    generator, held = np.random.default_rng(0), 0
    sizes = [64, 128, 256, 512]
    for _ in range(400):
        draws = {size: [size**0.5 * np.exp(0.1 * generator.standard_normal()) for _ in range(3)] for size in sizes}
        slope = fit_slope(draws)
        held += slope.low <= 0.5 <= slope.high
        line: Any = stats.linregress(np.repeat(np.log(sizes), 3), np.log(np.concatenate([*draws.values()])))
        assert slope == pytest.approx([line[0], line[0] - 2.228139 * line[4], line[0] + 2.228139 * line[4]])  # t of 10
    assert 0.92 < held / 400 < 0.98


def test_the_words_say_where_an_interval_lies():
    assert judge_slope(Slope(0.5, 0.3, 0.7), 0.25) == "grows"
    assert judge_slope(Slope(-0.5, -0.7, -0.3), 0.25) == "shrinks"
    assert judge_slope(Slope(0.1, -0.1, 0.2), 0.25) == "stands"
    assert judge_slope(Slope(0.2, 0.0, 0.4), 0.25) == "not resolved"


def test_activations_are_those_of_the_forward_pass():
    decoder = build_decoder(composed(*NANO), 31)
    tokens = torch.randint(31, (2, 16), generator=torch.Generator().manual_seed(0))
    recorded = record_activations(decoder, tokens)
    torch.testing.assert_close(recorded["embedding"][0], decoder.embedding(tokens))
    torch.testing.assert_close(recorded["logits"][0], decoder.readout(decoder.norm(recorded["stream"][0])))
    total = recorded["embedding"][0] + sum([*recorded["attention"], *recorded["MLP"]])
    torch.testing.assert_close(recorded["stream"][0], total)
    assert not decoder.norm._forward_pre_hooks  # nothing stays hooked


def test_width_grows_by_heads_or_by_their_width():
    recipe = composed(*NANO)
    wider, more = (set_width(recipe, 128, grow).settings.model for grow in ("head", "heads"))
    assert (wider.heads, wider.head) == (4, None)
    assert (more.heads, more.head) == (8, 16)
    with pytest.raises(Refused, match=r"study\.grow=heads: heads of 16 do not fill a width of 120"):
        set_width(recipe, 120, "heads")


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"widths": [64, 32, 128], "depths": []}, "does not rise"),
        ({"widths": [], "depths": []}, "check nothing"),
        ({"widths": [64, 128, 256], "depths": [], "steps": 0}, "steps=0 is less than 1"),
        ({"widths": [64, 128, 256], "depths": [], "tolerance": 0.0}, "tolerance=0.0 is not positive"),
    ],
)
def test_what_cannot_be_checked_is_refused(knobs: dict, said: str):
    with pytest.raises(ValueError, match=said):
        CoordinateCheck(**knobs)


def test_an_arm_that_some_size_refuses_is_refused_before_anything_is_trained():
    study = CoordinateCheck(widths=[64, 128, 256], depths=[], vocab=31)
    with pytest.raises(Refused, match=r"at 128: .*attention .DifferentialAttention"):
        study.check({"a": composed(*NANO, "attention=differential", "parametrization=mup")})
