"""Laws of controls=true: the baseline at nearly its steps is judged as any arm, and says what the study can see."""

from dataclasses import replace

import planted_runs as planted
import pytest

from gptlab.report.render.answer import answer_with_findings
from gptlab.report.text.caveats import describe_controls
from gptlab.report.text.view import make_views
from gptlab.stats.results import Run


def with_controls(worth: float) -> list[Run]:
    """Planted runs in which 5 % of compute is worth so many nats."""
    base = planted.runs(5, other=0.0)
    shorter, longer = (
        [
            replace(run, role="budget", budget=budget, values={**run.values, "val/loss": run.values["val/loss"] + off})
            for run in planted.runs(5, other=0.0)
            if run.arm == "other"
        ]
        for budget, off in ((0.95, worth), (1.05, -worth))
    )
    controls = [replace(run, arm="base") for run in (*shorter, *longer)]
    return [*base, *controls]


def said(worth: float) -> str:
    """The line of a study with these controls."""
    (view,) = make_views(planted.judged(with_controls(worth)))
    (line,) = describe_controls(view)
    return line


def test_a_study_that_sees_five_percent_of_compute_says_so():
    assert "sees a 5 % difference in compute: yes; the baseline at 0.95x +0.02" in said(0.02)
    assert "(worse)" in said(0.02)


def test_a_study_that_does_not_says_so():
    assert "sees a 5 % difference in compute: no" in said(0.0)


@pytest.mark.parametrize(("worth", "sees"), [(0.02, True), (0.0, False), (-0.02, False)])
def test_a_program_is_told_whether_the_study_sees_so_much(worth: float, sees: bool):
    (controls,) = answer_with_findings(planted.judged(with_controls(worth)))["controls"]
    assert controls["sees_5_percent"] is sees
    assert [verdict["arm"] for verdict in controls["verdicts"]] == ["0.95x", "1.05x"]


def test_controls_price_nothing():
    (stratum,) = planted.judged(with_controls(0.02)).strata
    assert stratum.exchange is None  # two points so near say nothing of a doubling
    assert stratum.controls is not None
    assert [control.arm for control in stratum.controls.contrasts] == ["0.95x", "1.05x"]
    assert {contrast.arm for contrast in stratum.comparisons[0].contrasts} == {"other"}  # they count as no comparison


@pytest.mark.parametrize(("worth", "line"), [(0.5, "is worse by +0.5"), (0.0, "is not worse"), (-0.1, "is not worse")])
def test_the_negative_control_must_look_worse_and_costs_the_others_nothing(worth: float, line: str):
    runs = with_controls(0.02)
    learnt_nothing = [
        replace(run, arm="base", role="shuffled", values={**run.values, "val/loss": run.values["val/loss"] + worth})
        for run in planted.runs(5, other=0.0)
        if run.arm == "other"
    ]
    before, after = (planted.judged(some).strata[0].controls for some in (runs, [*runs, *learnt_nothing]))
    assert before is not None
    assert after is not None
    assert after.contrasts[:2] == before.contrasts
    (view,) = make_views(planted.judged([*runs, *learnt_nothing]))
    of_compute, of_nothing = describe_controls(view)
    assert line in of_nothing
    assert "compute: yes" in of_compute


def test_without_controls_nothing_is_said():
    (view,) = make_views(planted.judged(planted.runs(3, other=0.1)))
    assert describe_controls(view) == []
    assert "controls" not in answer_with_findings(planted.judged(planted.runs(3, other=0.1)))
