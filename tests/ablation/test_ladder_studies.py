"""A ladder of real studies: rungs with their own steps, hopeless arms left out of the third, and refusals in a line."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from planted_ladders import judge_ladder
from rich.console import Console
from tiny_runs import COMPARED, TINY, Done, program

from gptlab.ablation.ladder.climb import run_rungs

WORDS = [word for word in TINY if not word.startswith(("model=", "model.layers=", "steps="))]
STUDY = [*WORDS, "model.heads=2", "save_every=50", "metric=[bits_per_byte]", "timing=0", "jobs=1", "name=climbed"]
STUDY += ["looks=[2]", "seeds=2"]
LADDER = "ladder=[nano,micro,mini]"
TOKENS = "rung_tokens=[3840,3968,4096]"
"""30 to 32 steps of sizes that differ in their layers alone."""


def ablate(pool: Path, *more: str) -> Done:
    """python ablate.py, in this process."""
    return program("ablate.py", *STUDY, f"outputs={pool}", *more)


def read_comparison(pool: Path) -> dict[str, Any]:
    return json.loads((pool / "ablations" / "climbed" / "comparison.json").read_text())


def test_rungs_run_from_the_smallest_without_arms_that_were_worse_at_two(monkeypatch: pytest.MonkeyPatch):
    """Of a plan whose runs are made up: what each rung has left to run."""
    arms, sizes = ("base", "good", "bad"), ["nano", "micro", "mini"]
    cells = {
        f"{size}/{arm}": SimpleNamespace(variant=SimpleNamespace(size=size, name=arm)) for size in sizes for arm in arms
    }
    plan: Any = SimpleNamespace(
        cells=cells,
        spec=SimpleNamespace(options=SimpleNamespace(ladder=sizes, tune="shared")),
        folder=SimpleNamespace(path=None),
    )
    ran: list[list[str]] = []
    found = judge_ladder({"good": [0.05, 0.05], "bad": [-0.05, -0.05]})
    monkeypatch.setattr("gptlab.report.findings.compare_study_folder", lambda path: found)
    out = io.StringIO()
    run_rungs(plan, lambda: ran.append([*plan.cells]), Console(file=out, width=120))
    assert ran[0] == ["nano/base", "nano/good", "nano/bad"]
    assert [key for key in ran[1] if key not in ran[0]] == ["micro/base", "micro/good", "micro/bad"]
    assert [key for key in ran[2] if key not in ran[1]] == ["mini/base", "mini/good"]
    assert "mini: without bad, worse at two rungs; 1 cells of 3 are not run" in out.getvalue()


@pytest.mark.slow
def test_an_arm_that_is_worse_at_two_rungs_is_left_out_of_the_third(tmp_path: Path):
    arms = ("optimizer.lr=1e-2,1e-5", "baseline=0.01", "delta=1e-3")
    first = ablate(tmp_path, LADDER, TOKENS, *arms)
    assert first.status in COMPARED, first.err
    assert "rungs: nano 30 steps" in first.out
    assert "mini: without optimizer.lr=1e-05, worse at two rungs; 2 cells of 4 are not run" in first.out
    comparison = read_comparison(tmp_path)
    steps = {(run["size"], run["seed"]): run["values"]["steps"] for run in comparison["runs"] if "0.01" in run["arm"]}
    assert [steps[size, 0] for size in ("nano", "micro", "mini")] == [30, 31, 32]
    (trend,) = comparison["ladder"]["arms"]
    assert trend["left_out"] == ["mini"]
    assert [rung["verdict"] for rung in trend["rungs"]] == ["worse", "worse"]
    assert trend["first"]["high"] < 0
    report = (tmp_path / "ablations" / "climbed" / "report.html").read_text()
    assert "Over sizes" in report
    assert "Gain over training compute" in report

    runs = {path.name: path.stat().st_mtime for path in (tmp_path / "runs").iterdir()}
    again = ablate(tmp_path, LADDER, TOKENS, *arms)
    assert {path.name: path.stat().st_mtime for path in (tmp_path / "runs").iterdir()} == runs
    assert again.status == first.status
    assert read_comparison(tmp_path)["ladder"] == comparison["ladder"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["ladder=[nano]"], "ladder=[nano] needs two sizes or more"),
        (["ladder=[nano,micro]", "steps=40"], "does not go with steps=...: set tokens_per_parameter"),
        (["ladder=[nano,micro]", "model=nano,micro"], "does not go with model=nano,micro: its sizes are the models"),
        (["ladder=[nano,micro]", "until=resolved"], "does not go with until=resolved"),
        (["ladder=[nano,micro]", "project=mini"], "project=mini: two rungs give a line that nothing checks"),
        (["ladder=[nano,micro]", "rung_tokens=[1e6]"], "rung_tokens=[1000000.0] are not the tokens of 2 rungs"),
        (["ladder=[nano,micro]", "max_minutes=soon"], "max_minutes=soon is no number of minutes"),
        (["project=mini"], "project=mini speaks of a ladder"),
    ],
)
def test_a_ladder_that_cannot_be_climbed_is_refused_in_one_line(tmp_path: Path, words: list[str], problem: str):
    refused = ablate(tmp_path, "attention=mha,gqa", *words)
    assert refused.status == 2
    assert problem in refused.err
    assert refused.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_ladder_of_no_arms_is_refused(tmp_path: Path):
    assert "has nothing to compare; give arms" in ablate(tmp_path, "ladder=[nano,micro]").err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["ladder=[nano,micro,mini]", "max_minutes=1e-4"], "max_minutes=0.0001: this ladder takes about"),
        (["ladder=[nano,micro,mini]", "project=baby", "project_limit=0.5"], "and project_limit is 0.5; climb further"),
    ],
)
def test_what_the_bill_shows_to_be_too_much_is_refused(tmp_path: Path, words: list[str], problem: str):
    refused = ablate(tmp_path, "norm=rmsnorm,layernorm", *words, TOKENS)
    assert refused.status == 2
    assert problem in refused.err
    assert refused.err.count("\n") == 1


def test_sizes_that_are_one_model_here_are_no_ladder(tmp_path: Path):
    for words, problem in {
        ("attention=mha,gqa", "model.layers=1"): "ladder=[nano,micro]: two rungs have as many parameters",
        ("optimizer.lr=1e-2,1e-5", "model.layers=1"): "ladder=[nano,micro]: micro is the model of another rung here",
    }.items():
        assert problem in ablate(tmp_path, "ladder=[nano,micro]", "dry_run=true", *words).err


def test_rungs_out_of_order_are_refused(tmp_path: Path):
    words = [word for word in STUDY if not word.startswith("model.")]
    refused = program("ablate.py", *words, f"outputs={tmp_path}", "attention=mha,gqa", "ladder=[micro,nano]")
    assert refused.status == 2
    assert "ladder=[micro,nano] goes from small to large; say ladder=[nano,micro]" in refused.err


def test_named_arms_climb_too(tmp_path: Path):
    arms = tmp_path / "arms.yaml"
    arms.write_text("base: []\nwarm: [optimizer.lr=2e-3]\n")
    bill = ablate(tmp_path, "ladder=[nano,micro]", f"arms={arms}", "rung_tokens=[1280,2560]", "dry_run=true")
    assert bill.status == 0, bill.err
    for key in ("nano/base", "nano/warm", "micro/base", "micro/warm"):
        assert key in bill.out


@pytest.mark.slow
def test_the_decisions_of_a_ladder_are_read_from_its_runs_and_repeated_from_their_file(tmp_path: Path):
    words = ("ladder=[nano,micro]", "rung_tokens=[3840,3968]", "optimizer.lr=1e-2,1e-3,1e-5", "baseline=0.01")
    assert ablate(tmp_path, *words).status in COMPARED
    losses, page, folder = tmp_path / "losses.json", tmp_path / "tables.md", tmp_path / "ablations" / "climbed"
    first = program("-m gptlab", "decisions", str(folder), "--data", str(losses), "--to", str(page))
    again = program("-m gptlab", "decisions", str(losses))
    assert (first.status, again.status) == (0, 0), first.err + again.err
    # slow rates are worse at both sizes
    assert "2 of 2 decisions have the same sign at nano and at micro: 100 %" in " ".join(first.out.split())
    assert again.out.rstrip() == first.out.removesuffix(f"{losses}\n{page}\n").rstrip()
    assert "| optimizer | 2 | 2 |" in page.read_text()


@pytest.mark.slow
def test_a_ladder_takes_up_runs_that_another_study_has_finished_at_every_rung(tmp_path: Path):
    words = ("ladder=[nano,micro]", "rung_tokens=[3840,3968]", "optimizer.lr=1e-2,1e-3", "baseline=0.01")
    assert ablate(tmp_path, *words).status in COMPARED
    runs = sorted(path.name for path in (tmp_path / "runs").iterdir())
    again = ablate(tmp_path, *words, "name=again")
    assert again.status in COMPARED, again.err
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == runs
