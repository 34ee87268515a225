"""Decisions over sizes: losses come from a ladder's runs or from a file, and both give the same tables."""

import json
import math
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from planted_decisions import make_ladder
from planted_ladders import judge_ladder
from planted_runs import judged
from tiny_runs import ROOT

from gptlab.commands.decisions import decisions
from gptlab.errors import Refused
from gptlab.report.decisions import collect_losses, read_document, read_ladders, to_document
from gptlab.report.render.decisions import answer_with_decisions, render_decisions
from gptlab.runs.record import to_json
from gptlab.stats.ladder.decision_accuracy import compare_all_sizes
from gptlab.stats.ladder.decisions import LadderLosses
from gptlab.stats.results import Run

LOSSES = {"base": [2.0, 2.01, 2.02], "mlp=relu|2": [1.9, 1.91, 1.925], "norm.eps=1": [2.1, 2.11, 2.12]}


def write_losses(path: Path, *ladders: LadderLosses) -> Path:
    path.write_text(to_json(to_document([*ladders])))
    return path


def test_losses_of_a_ladder_are_those_of_its_runs():
    both = "mlp=gelu norm.eps=1"
    # of an arm of a file only the name is known
    gains = {"attention.window=8": [0.05, 0.01], both: [-0.05, 0.02]}
    findings = judge_ladder(gains, arm_values={both: (("mlp", "gelu"), ("norm.eps", "1"))})
    ladder = collect_losses(findings)
    assert [rung.size for rung in ladder.rungs] == ["nano", "micro"]
    assert ladder.slots == {"attention.window=8": "attention", both: "mlp+norm"}
    for rung in ladder.rungs:
        values = {(run.arm, run.seed): run.values["val/loss"] for run in findings.runs if run.size == rung.size}
        assert {(arm, seed): loss for arm, row in rung.losses.items() for seed, loss in row.items()} == values
    assert ladder.rungs[1].flops == pytest.approx(1e11 * math.e**2)


def test_where_rates_are_tuned_an_arm_is_its_runs_at_its_best_rate():
    findings = judge_ladder({"arm": [0.05, 0.05]})
    rates: list[Run] = []
    for run in findings.runs:
        slower = {**run.values, "val/loss": run.values["val/loss"] + (0.1 if run.size == "nano" else -0.1)}
        rates += [replace(run, lr=1e-2), replace(run, lr=1e-3, values=slower)]
    ladder = collect_losses(judged(rates, ladder=findings.plan.ladder, tune="grid"))
    assert ladder.tuned
    plain = collect_losses(findings)
    assert ladder.rungs[0].losses == plain.rungs[0].losses
    assert ladder.rungs[1].losses["arm"][0] == pytest.approx(plain.rungs[1].losses["arm"][0] - 0.1)


def test_a_study_of_one_size_or_with_one_rung_done_is_refused():
    findings = judge_ladder({"arm": [0.05, 0.05]})
    unfinished = [replace(stratum, runs=stratum.runs if place else []) for place, stratum in enumerate(findings.strata)]
    cases = {
        "no ladder": replace(findings, plan=replace(findings.plan, ladder=[])),
        "the ladder nano, micro, and finished runs of its baseline at 1 rungs": replace(findings, strata=unfinished),
    }
    for words, case in cases.items():
        with pytest.raises(Refused, match=words):
            collect_losses(case)


def test_a_file_of_losses_says_what_its_studies_say(tmp_path: Path):
    ladder = make_ladder(LOSSES, LOSSES)
    (again,) = read_document(write_losses(tmp_path / "losses.json", ladder))
    assert again == ladder
    assert compare_all_sizes([again]) == compare_all_sizes([ladder])


def test_what_is_no_study_and_no_whole_file_is_refused_in_a_line(tmp_path: Path):
    losses = write_losses(tmp_path / "losses.json", make_ladder(LOSSES, LOSSES))
    for name, content in {"version.json": {"version": 99}, "empty.json": {"version": 1, "ladders": [{}]}}.items():
        (tmp_path / name).write_text(json.dumps(content))
    cases = {
        "nowhere": "is no study and no file",
        "version.json": "version 99, and 1 is read",
        "empty.json": "no file of losses",
    }
    for name, words in cases.items():
        with pytest.raises(Refused, match=words):
            read_ladders([tmp_path / name])
    with pytest.raises(Refused, match="planted is given twice"):
        read_ladders([losses, losses])


def test_a_ladder_of_one_seed_is_refused_in_a_line(tmp_path: Path):
    single = {arm: losses[:1] for arm, losses in LOSSES.items()}
    with pytest.raises(Refused, match=r"^planted: no arm has two seeds in common .* say seeds=2"):
        decisions([write_losses(tmp_path / "losses.json", make_ladder(single, single))])


def test_the_page_on_decisions_is_what_its_losses_say():
    page = (ROOT / "docs" / "decision_accuracy.md").read_text()
    assert runpy.run_path(str(ROOT / "docs" / "tables.py"))["render_decision_page"](page) == page
    # what its own words say of the table
    first, *_ = compare_all_sizes(read_ladders([ROOT / "docs" / "decision_accuracy.json"]))
    every = first.shares["all"]
    assert f"**{every.agree} of {every.of}**" in page.partition("<!--")[0]


def test_markdown_and_programs_have_every_decision_and_names_break_no_table():
    pairs = compare_all_sizes([make_ladder(LOSSES, LOSSES)])
    page = render_decisions(pairs)
    assert "**2 of 2** decisions have the same sign at nano and at micro: 100 % (34 to 100 %)" in page
    assert r"| mlp=relu\|2 |" in page
    (answer,) = answer_with_decisions(pairs)
    assert [(row["arm"], row["agrees"], row["outcome"]) for row in answer["decisions"]] == [
        ("mlp=relu|2", True, "same"),
        ("norm.eps=1", True, "same"),
    ]
    assert answer["shares"]["resolved at both"]["agree"] == 2
