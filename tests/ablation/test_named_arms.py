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


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        (None, [], "cannot be read: No such file or directory; give a YAML file of named arms"),
        ("- a\n", [], "names no arms; write a name and its overrides a line"),
        ("a: mlp=gelu\n", [], "a: mlp=gelu is no list of overrides"),
        ("a: [gelu]\n", [], "a: ['gelu'] is no list of overrides"),
        ("a: [", [], "no YAML"),
        ("a: []\na: [mlp=gelu]\n", [], "has a name twice; give each arm its own"),
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
