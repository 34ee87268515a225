"""A ladder in the report: a sentence for each arm, a table of rungs, gains over compute, and the power laws."""

import io

from planted_ladders import judge_ladder
from rich.console import Console

from gptlab.report.figures.ladder import draw_gains, draw_power_laws
from gptlab.report.render.answer import answer_with_findings
from gptlab.report.render.terminal import print_study
from gptlab.report.study import build_study_report
from gptlab.report.text.ladder import build_ladder_columns, describe_ladder
from gptlab.stats.ladder.findings import LadderFindings

GAINS = {"good": [0.08, 0.06, 0.045], "bad": [-0.05, -0.06], "flip": [0.05, 0.0, -0.05]}
FOUND = judge_ladder(GAINS, project="baby", project_flops=5e13)


def ladder() -> LadderFindings:
    assert FOUND.ladder is not None
    return FOUND.ladder


def test_every_arm_has_its_word_its_ends_and_its_projection():
    good, bad, flip = (
        next(str(line) for line in describe_ladder(ladder()) if f"of {arm} " in str(line))
        for arm in ("good", "bad", "flip")
    )
    assert good.startswith("The gain of good shrinks: +0.080")
    assert "Projected to baby, " in good
    assert bad.startswith("The deficit of bad grows: \N{MINUS SIGN}0.0")
    assert "Projected" not in bad
    assert "flips: +0.05" in flip


def test_what_was_left_out_is_said_and_is_a_row():
    lines = " ".join(map(str, describe_ladder(ladder())))
    assert "Bad was worse at two rungs and left out of mini." in lines
    table = {column.head: column.cells for column in build_ladder_columns(ladder())}
    rows = list(zip(table["arm"], table["rung"], table["verdict"], strict=True))
    assert ("bad", "mini", "left out") in rows
    assert ("good", "mini", "✓ better") in rows


def test_figures_hold_every_rung_and_the_projection():
    gains, laws = draw_gains(ladder()), draw_power_laws(ladder())
    assert gains is not None
    assert laws is not None
    assert [row[1] for row in gains.rows if row[0] == "good"] == ["nano", "micro", "mini", "baby"]
    assert len({row[1] for row in laws.rows}) == 1  # one floor


def test_two_rungs_have_a_line_and_no_curves():
    two = judge_ladder({"good": [0.03, 0.09]}).ladder
    assert two is not None
    assert draw_power_laws(two) is None
    assert draw_gains(two) is not None


def test_report_terminal_and_answer_have_the_ladder():
    headings = [section.heading for section in build_study_report(FOUND).sections]
    assert "Over sizes" in headings
    out = io.StringIO()
    print_study(FOUND, Console(file=out, width=100))
    assert "The gain of good shrinks" in " ".join(out.getvalue().split())
    assert answer_with_findings(FOUND)["ladder"]["sizes"] == ["nano", "micro", "mini"]
    assert "ladder" not in answer_with_findings(judge_ladder({"good": [0.1]}))
