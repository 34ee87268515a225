"""Laws of the studies that train nothing: what is counted is what is built, what is measured was measured before."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import composed
from tiny_runs import COMPARED, finished, program, tiny

from gptlab.commands.explain import describe_costs
from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.report.measurement_folder import find_rows_path, load_measurements
from gptlab.report.render.comparison_keys import MEASUREMENTS
from gptlab.runs.study_folder import StudyFolder
from gptlab.stats.labels import read_point
from gptlab.stats.measurements import Row, summarize_rows
from gptlab.stats.study_plan import StudyPlan
from gptlab.study.size import PARTS, Size, count_sizes
from gptlab.study.transplant import Transplant
from gptlab.training.build import build_decoder

FIRST = ["experiment=gpt2", "vocab_multiple=1", "model.width=256", "model.heads=2", "model.layers=3"]
FIRST += ["model.context=256", "mlp=gelu", "mlp.hidden=1280", "init=torch", "init.embedding_std=1.0"]
"""The decoder of github.com/ravidcohen1/dle-assignment, at a quarter of its context."""


def recipe(*more: str) -> Recipe:
    """With these overrides."""
    return composed(*FIRST, *more)


# -- size


@pytest.mark.parametrize(
    ("words", "vocab", "total"),
    [
        ([*FIRST, "model.context=1024"], 512, 3_156_992),
        (["experiment=gpt2", "model=gpt2", "vocab_multiple=1"], 50257, 124_439_808),
        (["experiment=gpt2", "model=gpt2_xl", "vocab_multiple=1"], 50257, 1_557_611_200),
    ],
)
def test_sizes_are_the_known_ones(words: list[str], vocab: int, total: int):
    found = count_sizes(composed(*words), vocab)
    assert found["parameters"] == total
    assert sum(found[part] for part in PARTS) == total
    assert found["MiB float32"] == pytest.approx(12.04, abs=0.005) or total > 1e8


def test_layers_that_predict_ahead_are_counted_with_the_readout_that_asks_for_them():
    tied, ahead = (count_sizes(composed(*FIRST, f"readout={choice}"), 64) for choice in ("tied", "mtp"))
    assert tied["readout"] == 0
    assert {part for part in PARTS if tied[part] != ahead[part]} == {"readout"}
    costs = [describe_costs(composed(*FIRST, f"readout={choice}"), "readout") for choice in ("tied", "mtp")]
    assert costs[1]["of readout"] == costs[1]["parameters"] - costs[0]["parameters"]


def test_a_study_of_sizes_is_a_table(tmp_path: Path):
    done = program("ablate.py", *tiny(tmp_path), "study=size", "seeds=1", "readout=tied,untied")
    assert done.status == 0
    (folder,) = (tmp_path / "ablations").iterdir()
    assert "cache bytes/token" in (folder / "report.md").read_text()
    assert {*json.loads((folder / "comparison.json").read_text())} == {*MEASUREMENTS.keys}


# -- transplant


@pytest.fixture(scope="module")
def moved() -> dict[str, dict[str, float]]:
    """What one block says of each change, by metric."""
    changes = {
        "eps": ["norm.eps=1e-4"],
        "scale": ["attention.scale=1"],
        "tanh": ["mlp=gelu_tanh"],
        "1": ["block=input_residual"],
        "2": ["block=no_mlp_residual"],
        "3": ["block=parallel"],
    }
    arms = {"none": recipe(), **{name: recipe(*words) for name, words in changes.items()}}
    found: dict[str, dict[str, float]] = {}
    for row in Transplant(vocab=512, batch=1, rounds=1)(arms, 0, build_decoder, Path()):
        if not isinstance(row.value, list):
            found.setdefault(row.arm, {})[row.metric] = row.value
    return found


KNOWN = {"eps": 3.9e-4, "scale": 3.72, "tanh": 7.9e-4, "1": 1.39, "2": 23.7, "3": 0.20}
"""RMSE of an independent re-implementation, another random start."""


@pytest.mark.parametrize("change", KNOWN)
def test_logits_move_as_far_as_they_did_elsewhere(change: str, moved: dict[str, dict[str, float]]):
    assert moved[change]["RMSE"] == pytest.approx(KNOWN[change], rel=0.25)
    assert moved[change]["RMSE"] ** 2 == pytest.approx(moved[change]["MAD"] ** 2 + moved[change]["SD"] ** 2)
    assert moved[change]["top-1 alike"] == pytest.approx(0 if change == "2" else 1, abs=0.05)


def tried(study: Transplant, *arms: Recipe) -> Any:
    """The study on some arms."""
    named = dict(zip("abc", arms, strict=False))
    study.check(named)
    return study(named, 0, build_decoder, Path())


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["dropout=0.5"], "b changes no logit of a: it has no effect on these weights; leave it out"),
        (["mlp.hidden=1288"], "b: the weights do not fit: size mismatch for blocks.0.mlp.up.weight"),
        (["model.context=128"], "study=transplant gives all arms the same tokens; leave model.context alone"),
    ],
)
def test_a_change_that_is_none_or_does_not_fit_is_refused(more: list[str], line: str):
    with pytest.raises(Refused) as refused:
        tried(Transplant(vocab=512, batch=1, rounds=1), recipe(), recipe(*more))
    assert str(refused.value).startswith(line)


# -- tables


def test_numbers_are_means_over_blocks_and_times_are_ratios_by_round():
    rows = [Row(arm, block, "ms", [10.0 + at * (arm == "b") for at in range(6)]) for block in (0, 1) for arm in "ab"]
    rows += [Row("A/A", block, "ms", [10.0] * 6) for block in (0, 1)]
    rows += [Row("b", block, "bytes", 4.0 + block) for block in (0, 1)]
    found = summarize_rows(StudyPlan(study="x"), rows)
    (timing,) = found.timings
    assert (found.baseline, found.values, timing.rounds, timing.spread) == ("a", {"bytes": {"b": 4.5}}, 12, 0.0)
    assert timing.ratios["b"][0] == pytest.approx(1.25)


def test_points_of_curves_are_typed_and_no_label_is_read():
    point = (("", "scores"), ("length", "64"))
    rows = [Row("a name", 0, "ms", 1.0, point), Row("model.width=8", 0, "ms", 1.0), Row("x length=3", 0, "ms", 1.0)]
    rows += [Row("a name", 0, "at N", 1.0, point, (("", "ms"), ("N", "16")))]
    found = summarize_rows(StudyPlan(study="x", arm_values={"model.width=8": (("model.width", "8"),)}), rows)
    assert found.find_point("a name") == ("scores", "length", 64)
    assert found.find_point("model.width=8") == ("", "model.width", 8)
    assert found.find_point("x length=3") is None
    assert (found.find_metric_point("at N"), found.find_metric_point("ms")) == (("ms", "N", 16), None)
    assert read_point((("attention", "gqa"), ("model.dropout", "0.5"))) == ("attention=gqa", "model.dropout", 0.5)
    assert not any(map(read_point, [(), (("", "64"),), (("norm", "rmsnorm"),), (("optimizer.lr", "1e-3"),)]))


def test_rows_of_before_points_were_typed_are_read(tmp_path: Path):
    folder = StudyFolder(tmp_path / "ablations" / "old")
    folder.save_plan(StudyPlan(study="old", knobs={}, cells=["b0"]), {"b0": {"label": "block 0", "seed": 0}})
    rows = [{"arm": "raw head=4", "block": 0, "metric": "ms N=8", "value": 1.0}]
    rows.append({"arm": "plain", "block": 0, "metric": "ms", "value": 1.0})
    find_rows_path(folder, "b0").parent.mkdir()
    find_rows_path(folder, "b0").write_text(json.dumps({"code": "", "seconds": 1.0, "rows": rows}))
    found = load_measurements(folder.path)
    assert found.find_point("raw head=4") == ("raw", "head", 4)
    assert found.find_metric_point("ms N=8") == ("ms", "N", 8)
    assert found.find_point("plain") is None


def test_the_vocabulary_of_a_size_is_at_least_two():
    with pytest.raises(ValueError, match="vocab=1 is less than 2"):
        Size(vocab=1)


@pytest.mark.thorough
def test_what_was_moved_may_then_be_trained(tmp_path: Path):
    words = ["study=transplant", "study.follow_up=train", "study.rounds=1", "timing=0", "mlp=gelu,gelu_tanh"]
    done = program("ablate.py", *tiny(tmp_path), *words, "seeds=1", "name=moved")
    assert done.status in COMPARED, done.err
    assert {path.name for path in (tmp_path / "ablations").iterdir()} >= {"moved", "moved-train"}
    assert "gelu_tanh" in done.out.rpartition("trained anew: ")[2]
    assert "Trained anew" in (tmp_path / "ablations" / "moved" / "report.md").read_text()
    plan = json.loads((tmp_path / "ablations" / "moved-train" / "study.json").read_text())
    assert plan["command"][-1] == "name=moved-train"
    assert not any(word.startswith("study") for word in plan["command"])


@pytest.mark.thorough
def test_weights_of_a_run_that_has_changed_are_measured_anew(tmp_path: Path):
    run, other = (finished(*tiny(tmp_path, "steps=2", f"seed={seed}")) for seed in (0, 1))
    words = ["study=mxint8", f"study.run={run}", "study.formats=[int8]", "study.rounds=1", "study.batch=1", "seeds=1"]

    def measure() -> tuple[str, dict[str, Any]]:
        done = program("ablate.py", *tiny(tmp_path, *words))
        assert done.status == 0, done.err
        return done.out, json.loads((Path(done.out.splitlines()[-1]) / "comparison.json").read_text())

    out, first = measure()
    assert "0 of them done" in out
    out, again = measure()
    assert ("0 of them done" in out, again) == (False, first)
    shutil.copyfile(other / "checkpoints/last.ckpt", run / "checkpoints/last.ckpt")
    out, third = measure()
    assert "0 of them done" in out
    assert third != first


def test_a_measuring_study_that_is_refused_leaves_nothing(tmp_path: Path):
    done = program("ablate.py", *tiny(tmp_path, "study=mxint8", f"study.run={tmp_path}/nowhere"))
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert not [*(tmp_path / "ablations").iterdir()]
