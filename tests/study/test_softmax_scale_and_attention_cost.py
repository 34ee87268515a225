"""Laws of the studies that ask about attention itself: what softmax lets through, and what length costs."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from conftest import composed

from gptlab.errors import Refused
from gptlab.report.measurement import build_measurement_report
from gptlab.report.model import Figure
from gptlab.stats.labels import SizePoint
from gptlab.stats.measurements import summarize_rows
from gptlab.stats.study_plan import StudyPlan
from gptlab.study.attention_cost import AttentionCost, compute_slopes
from gptlab.study.graph import Graphed
from gptlab.study.softmax_scale import SoftmaxScale, jacobian_norm
from gptlab.training.build import build_decoder

# -- softmax_scale

KNOWN = {
    "raw head=16": (4.0, 0.587, 1.35, 0.294, 0.331),
    "raw head=64": (8.0, 0.797, 0.57, 0.198, 0.158),
    "raw head=256": (15.9, 0.894, 0.27, 0.130, 0.025),
    "raw head=1024": (32.1, 0.956, 0.11, 0.060, 0.00017),
    "scaled head=16": (1.0, 0.109, 3.68, 0.184, None),
    "scaled head=64": (1.0, 0.110, 3.68, 0.184, None),
    "scaled head=256": (1.0, 0.106, 3.69, 0.183, None),
    "scaled head=1024": (1.0, 0.109, 3.68, 0.184, None),
}
"""Of an independent implementation, from one draw of 64 queries: the median, of raw scores, is a wide guess there."""
NAMES = ("logit SD", "max probability", "entropy", "Jacobian")


def test_softmax_lets_through_what_it_did_elsewhere():
    found: dict[str, dict[str, float]] = {}
    for row in SoftmaxScale(heads=[16, 64, 256, 1024], draws=24)({"a": composed()}, 0, build_decoder, Path()):
        assert isinstance(row.value, float)
        found.setdefault(row.arm, {})[row.metric] = row.value
    for arm, (*means, median) in KNOWN.items():
        for name, wanted in zip(NAMES, means, strict=True):
            assert found[arm][name] == pytest.approx(wanted, rel=0.04, abs=0.015), (arm, name)
        if median is not None:
            assert found[arm]["Jacobian, median"] == pytest.approx(median, rel=0.5), arm
    quiet = [found[f"raw head={head}"]["gradient q, median"] for head in (64, 256, 1024)]
    assert quiet[0] > 3 * quiet[1] > 30 * quiet[2]  # vanishes where scaled ones stay
    assert found["scaled head=1024"]["gradient q, median"] == pytest.approx(
        found["scaled head=16"]["gradient q, median"], rel=0.1
    )


def test_the_jacobian_is_that_of_softmax():
    z = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = torch.autograd.functional.jacobian(lambda x: x.softmax(-1), z)
    torch.testing.assert_close(jacobian_norm(z.softmax(-1)[None])[0], torch.linalg.norm(whole))


def test_numbers_of_widths_are_drawn_over_them_and_axes_are_refused():
    study = SoftmaxScale(heads=[4, 8], draws=2)
    rows = study({"a": composed()}, 0, build_decoder, Path())
    told = build_measurement_report(summarize_rows(StudyPlan(study="x"), rows))
    (every,) = (section for section in told.sections if section.key == "where")
    assert {"Jacobian, median over head", "entropy over head"} <= {
        one.title for one in every.items if isinstance(one, Figure)
    }
    with pytest.raises(Refused, match="study=softmax_scale measures softmax, no decoder; leave the axes out"):
        study.check({"a": composed(), "b": composed()})


# -- attention_cost


def test_a_square_has_slope_2_and_a_line_1():
    powers = {"scores": 2, "block": 1}
    points = {f"{kind} {n}": SizePoint(kind, "length", n) for kind in powers for n in (8, 16)}
    times = {name: 2 * [float(point.value ** powers[point.line])] for name, point in points.items()}
    assert compute_slopes(times, points) == {"scores 16": pytest.approx(2), "block 16": pytest.approx(1)}


def test_scores_cost_as_much_as_linears_at_six_widths():
    recipe = composed(
        "attention=mha", "mlp=gelu", "mlp.hidden=128", "model.width=32", "model.heads=2", "model.layers=1"
    )
    rows = AttentionCost(lengths=[48, 96, 192], rounds=1)({"a": recipe}, 0, build_decoder, Path())
    said = {(row.arm, row.metric): row.value for row in rows}
    assert said["block length=192", "scores' share of FLOPs"] == pytest.approx(0.5)
    assert said["scores length=96", "score bytes"] == 4 * 2 * 96**2
    assert said["scores length=96", "MFLOPs"] == pytest.approx(4 * 96**2 * 32 / 1e6)
    assert {arm for arm, metric in said if metric == "local slope"} == {
        f"{kind} length={length}" for kind in ("scores", "block") for length in (96, 192)
    }


def test_attention_without_scores_has_no_such_cost():
    with pytest.raises(Refused, match="counts scores of softmax, which LinearAttention in the first layer has not"):
        AttentionCost(lengths=[8, 16]).check({"a": composed("attention=linear")})
    with pytest.raises(ValueError, match=r"lengths=\[16, 8\] does not rise"):
        AttentionCost(lengths=[16, 8])


# -- graph


def test_a_graph_is_counted_drawn_and_loses_an_operator(tmp_path: Path):
    recipe = composed("model.width=16", "model.heads=2", "model.layers=1", "model.context=16")
    rows = Graphed(length=8, vocab=11)({"a": recipe}, 0, build_decoder, tmp_path)
    said: dict[str, Any] = {row.metric: row.value for row in rows}
    assert (said["only logits"], said["only loss"]) == (0, 3)
    assert said["loss"] == said["logits"] + 3
    assert said["erased users"] == 3  # queries, keys and values
    assert said["erased RMSE"] > 0
    text = (tmp_path / "graph-0.txt").read_text()
    assert "cross_entropy_loss" in text
    assert "Tried to erase Node" in text
    drawn = ElementTree.parse(tmp_path / "graph-0.svg").getroot()
    assert len(drawn.findall("{*}circle")) == said["loss"]
    assert len(drawn.findall("{*}path")) == said["edges"]
    assert "blocks.0.attention.q" in {one.text for one in drawn.findall("{*}text")}


@pytest.mark.parametrize("choice", ["mlp=moe", "attention=mla", "residual=hyper"])
def test_operators_of_python_are_drawn_too(choice: str, tmp_path: Path):
    recipe = composed("model.width=16", "model.heads=2", "model.layers=1", "model.context=16", choice)
    assert Graphed(length=8, vocab=11)({"a": recipe}, 0, build_decoder, tmp_path)
    drawn = ElementTree.parse(tmp_path / "graph-0.svg").getroot()
    assert "getitem" in {one.text for one in drawn.findall("{*}text")}
