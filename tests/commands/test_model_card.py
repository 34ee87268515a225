"""Laws of model cards: what a run is, and the verdicts of the studies that it is in, and no others."""

import json
import shutil
from pathlib import Path

import pytest
from findings import findings
from tiny_runs import finished, tiny

from gptlab.commands.formats.model_card import list_verdicts, render_model_card
from gptlab.report.render.files import build_document
from gptlab.runs.record import to_json


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    return finished(*tiny(tmp_path_factory.mktemp("card"), "steps=5"))


def test_a_run_that_no_study_has_compared_says_so(run: Path):
    card = render_model_card(run)
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "No study has compared this run" in card
    loss = json.loads((run / "summary.json").read_text())["val/loss"]
    assert f"| val/loss | {loss:.4f} |" in card
    assert "\n    python " in card


def test_the_verdicts_are_those_of_the_studies_that_the_run_is_in(run: Path):
    document = json.loads(to_json(build_document(findings())))
    study = run.parents[1] / "ablations" / "attention-1a2b3c"
    study.mkdir(parents=True)
    try:
        (study / "comparison.json").write_text(json.dumps(document))
        assert not list_verdicts(run)
        arm = "attention=gqa"
        (row, *_) = (row for row in document["runs"] if row["arm"] == arm)
        row["folder"] = run.name
        (study / "comparison.json").write_text(json.dumps(document))
        (line,) = list_verdicts(run)
        assert line.startswith("- attention=gqa is **better** against attention=mha: -0.0182 nats/token, 95 % interval")
        assert line.endswith("3 seeds, study attention-1a2b3c")
        assert line in render_model_card(run)
        (study / "comparison.json").write_text('{"runs": ')
        assert not list_verdicts(run)
    finally:
        shutil.rmtree(study)
