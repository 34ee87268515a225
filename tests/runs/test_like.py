"""Laws of like=RUN: the same run from its folder alone, and what is typed beside it is all that differs."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import composed
from tiny_runs import COMPARED, finished, program, tiny, train

from gptlab.compose import compose_config
from gptlab.report.findings import compare_study_folder
from gptlab.runs.like import describe_run_in_words, expand_like
from gptlab.runs.record import read_recipe

CASES = [
    ["attention=gqa", "attention.window=8", "mlp=gelu", "norm=layernorm", "bias=true"],
    ["optimizer=muon", "schedule=wsd", "schedule.decay=0.5", "optimizer.betas=[0.9,0.95]", "clip=null"],
    ["change=[quantize]", "format@change.quantize.weight=mxfp4", "metric=[perplexity]", "callback=[gradient_norms]"],
    ["residual=sandwich", "readout=untied", "tokenizer=byte", "sample.prompt=\"a, 'b': {c}\"", "model.lr=7e-3"],
    ["experiment=gpt2", "data=text", "vocab_multiple=8"],
]


@pytest.fixture(scope="module", params=CASES, ids=" ".join)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run of other choices and knobs than the defaults."""
    words = [word for word in tiny(tmp_path_factory.mktemp("like"), "steps=3") if word not in request.param]
    return finished(*words, *request.param)


def test_the_words_of_a_run_are_its_recipe(run: Path):
    words = describe_run_in_words(run, compose_config)
    there = read_recipe(run)
    same = composed(*words)
    assert same.config | {key: there.config[key] for key in ("content", "name", "outputs", "tracking")} == there.config
    usual = composed("model=nano")
    assert len(words) < len(usual.choices) + 25  # a few knobs, and not the whole config


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run with a window."""
    return finished(*tiny(tmp_path_factory.mktemp("plain"), "attention=swa", "attention.window=8", "steps=3"))


def test_a_run_like_another_differs_in_what_is_typed(plain: Path, tmp_path: Path):
    done = train(f"like={plain}", "model.heads=2", "tracking=disabled", f"outputs={tmp_path}")
    assert done.status == 0, done.err
    there, here = (read_recipe(folder).config for folder in (plain, done.folder))
    assert (here["model"]["heads"], here["attention"]["window"], here["steps"]) == (2, 8, 3)
    assert {**here["model"], "heads": 4} == there["model"]


def test_a_slot_that_is_typed_loses_the_knobs_of_its_former_choice(plain: Path):
    words = expand_like([f"like={plain}", "attention=gqa"], compose_config)
    assert [word for word in words if word.startswith("attention")] == ["attention=gqa"]
    assert composed(*words).config["attention"]["window"] is None


def test_a_study_like_a_run_has_its_recipe_in_every_arm(plain: Path, tmp_path: Path):
    words = [f"like={plain}", "attention=mha,gqa", "seeds=1", "timing=0", "tracking=disabled", f"outputs={tmp_path}"]
    done = program("ablate.py", *words)
    assert done.status in COMPARED, done.err
    (folder,) = (tmp_path / "ablations").iterdir()
    assert {run.arm for run in compare_study_folder(folder).runs} == {"attention=mha", "attention=gqa"}
    recipes = [read_recipe(one).config for one in (tmp_path / "runs").iterdir()]
    there = read_recipe(plain).config
    assert all(one["model"] == there["model"] and one["steps"] == 3 for one in recipes)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["like=/nowhere"], "like=/nowhere is no run folder; see `python -m gptlab runs`"),
        (["like={run}", "resume={run}"], "begins a run, and resume= goes on with one; leave one of them out"),
        (["like={run}", "like={run}/../other"], "/../other is no run folder"),
        (["like={run}", "like={run}/"], "are two recipes; leave one of them out"),
        (["like={run}", "experiment=sprint"], "and experiment=sprint are two recipes; leave one of them out"),
    ],
)
def test_what_is_no_run_is_refused_in_a_line(plain: Path, words: list[str], line: str):
    done = train(*(word.format(run=plain) for word in words))
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert line in done.err


def test_options_may_stand_beside_a_run_and_other_words(plain: Path):
    done = program("train.py", "--cfg", "job", "-p", "steps", f"like={plain}", "model.heads=2")
    assert (done.status, done.out.strip()) == (0, "3"), done.err


def test_a_run_of_another_gptlab_is_no_default_of_this_one(plain: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(plain, other)
    lines = (plain / "config.yaml").read_text().splitlines(keepends=True)
    (other / "config.yaml").write_text("".join(line for line in lines if not line.startswith("clip:")))
    done = train(f"like={other}")
    assert (
        done.err == f"error: like={other} was made by another gptlab (clip: no value given); say clip=VALUE beside it\n"
    )
    assert "clip=2.0" in expand_like([f"like={other}", "clip=2.0"], compose_config)
    (other / "config.yaml").write_text("".join([*lines, "zebra: 1\n"]))
    assert f"error: like={other} was made by another gptlab (zebra: no such key" in train(f"like={other}").err


def test_a_run_without_the_place_it_was_started_in_is_refused(plain: Path, tmp_path: Path):
    shutil.copytree(plain, other := tmp_path / "other")
    facts = json.loads((plain / "run.json").read_text())
    for cwd in ({}, {"cwd": 3}):
        (other / "run.json").write_text(json.dumps({key: facts[key] for key in facts if key != "cwd"} | cwd))
        done = train(f"like={other}")
        assert (done.status, done.err.count("\n")) == (2, 1)
        assert "does not say where the run was started" in done.err
