"""Laws of arms by name: a file of overrides stands in place of axes, and is what the study asks."""

from pathlib import Path

import pytest
from tiny_runs import COMPARED, program, tiny

from gptlab.report.findings import compare_study_folder

ARMS = "plain: []\ngated: [attention.gate=true, model.lr=2e-3]\nbetas: ['optimizer.betas=[0.9,0.95]', mlp=gelu]\n"


def test_arms_of_a_file_are_compared_by_their_names(tmp_path: Path):
    (tmp_path / "arms.yaml").write_text(ARMS)
    words = [*tiny(tmp_path), f"arms={tmp_path}/arms.yaml", "seeds=2", "timing=0", "jobs=1"]
    done = program("ablate.py", *words)
    assert done.status in COMPARED, done.err
    (folder,) = (tmp_path / "ablations").iterdir()
    assert folder.name.startswith("plain_gated_betas-")
    comparison = compare_study_folder(folder).strata[0].comparisons[0]
    assert comparison.baseline == "plain"  # the arm that changes nothing
    assert {contrast.arm for contrast in comparison.contrasts} == {"gated", "betas"}
    again = program("ablate.py", *words, "dry_run=true")
    assert "6 done, 0 to run" in again.out
    (tmp_path / "arms.yaml").write_text(ARMS.replace("2e-3", "1e-3"))  # another question, and another study
    assert "4 done, 2 to run" in program("ablate.py", *words, "dry_run=true").out


def test_several_grids_are_one_study_about_one_baseline_without_what_is_excluded(tmp_path: Path):
    grids = 'grids=["attention=mha,gqa,mqa","norm=rmsnorm,layernorm mlp=swiglu,gelu"]'
    exclude = 'exclude=["norm=layernorm mlp=gelu"]'
    done = program("ablate.py", *tiny(tmp_path), "model.heads=4", grids, exclude, "dry_run=true")
    assert done.status == 0, done.err
    arms = [line.split()[0] for line in done.out.splitlines() if line.startswith("  ") and " 3  " in line]
    assert arms == ["baseline", "attention=gqa", "attention=mqa", "mlp=gelu", "norm=layernorm"]
    assert "left out by exclude: norm=layernorm mlp=gelu" in done.out


def test_excluded_points_of_a_grid_are_not_composed(tmp_path: Path):
    axes = ["attention=mha,gqa", "attention.kv_heads=4,2", "model.heads=4"]  # mha takes one number alone
    words = [*tiny(tmp_path), *axes, 'exclude=["attention=mha attention.kv_heads=2"]', "dry_run=true"]
    done = program("ablate.py", *words)
    assert done.status == 0, done.err
    assert "left out by exclude: attention=mha attention.kv_heads=2" in done.out


def test_a_whole_study_is_committed_in_a_file_and_run_by_its_name(tmp_path: Path):
    words = ["experiment=attention_study", "model.width=16", f"outputs={tmp_path}", "dry_run=true"]
    done = program("ablate.py", *words)
    assert done.status == 0, done.err
    assert "27 cells" in done.out
    assert "looks at 3, 5 seeds, from one to the next" in done.out
    typed = program("ablate.py", *words, "looks=[2]", "until=seeds", "seeds=2")  # what is typed wins
    assert "18 cells" in typed.out
    assert "looks at 2 seeds: look 1 of 1" in typed.out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["exclude=[gqa2]", "attention=mha,gqa"], "exclude=gqa2: no arm has it; write an arm's name, or all of some"),
        (["grids=[attention]"], "grids: attention lists no values; write them out, as in attention=gqa,swa"),
        (["grids=['attention=glob(*)']"], "lists no values; write them out"),
        (["grids=['']"], "a grid without axes"),
        (["grids=['attention=mha']"], "every value is the default, so nothing is compared"),
        (["grids=['mlp=gelu']", "attention=mha,gqa"], "grids has arms of its own; leave attention out"),
        (["grids=['mlp=gelu']", "design=star"], "grids does not go with a study or a design that has arms of its own"),
    ],
)
def test_what_is_wrong_with_grids_and_exclusions_is_one_line(tmp_path: Path, words: list[str], line: str):
    done = program("ablate.py", *tiny(tmp_path), *words)
    assert (done.status, done.err.count("\n")) == (2, 1), done.err
    assert line in done.err


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        (None, [], "cannot be read: No such file or directory; give a YAML file of lists of overrides"),
        ("- a\n", [], "names none; write a name and its overrides a line"),
        ("a: mlp=gelu\n", [], "a: mlp=gelu is no list of overrides"),
        ("a: [gelu]\n", [], "a: ['gelu'] is no list of overrides"),
        ("a: [", [], "no YAML"),
        ("a: []\na: [mlp=gelu]\n", [], "has a name twice; give each its own"),
        ("a: []\nb: [attention=gqua]\n", [], "attention=gqua: no such option"),
        ("a: []\nb: [mlp.nothing=1]\n", [], "b: mlp.nothing: no such key"),
        (ARMS, ["attention=mha,gqa"], "arms=FILE has arms of its own; leave attention out"),
        (ARMS, ["design=star"], "does not go with a study or a design that has arms of its own"),
    ],
)
def test_what_is_wrong_with_a_file_of_arms_is_one_line(tmp_path: Path, text: str | None, words: list[str], line: str):
    if text is not None:
        (tmp_path / "arms.yaml").write_text(text)
    done = program("ablate.py", *tiny(tmp_path), f"arms={tmp_path}/arms.yaml", *words)
    assert (done.status, done.err.count("\n")) == (2, 1), done.err
    assert line in done.err
    assert not (tmp_path / "ablations").exists()
