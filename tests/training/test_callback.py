"""Laws of the callbacks that a run lists: they watch, they are called at the right steps, and they survive a resume."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import choices
from test_resume import signalled
from tiny_runs import finished, numbers, rows, tiny, train

from gptlab.compose import compose
from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.runs.checkpoint import load_checkpoint
from gptlab.runs.record import read_recipe
from gptlab.runs.tracker import Histogram
from gptlab.training.callback import Callback
from gptlab.training.callback.ema import Ema
from gptlab.training.callback.gradient_norms import GradientNorms, measure_gradients
from gptlab.training.callback.last_k import LastK
from gptlab.training.check import check_recipe
from gptlab.training.setup import build_callbacks


def row_values(folder: Path, prefix: str) -> list[dict[str, Any]]:
    """Step, tokens and the keys with a prefix, of each row of a run that has some."""
    kept = [
        {key: value for key, value in row.items() if key in ("step", "tokens") or key.startswith(prefix)}
        for row in rows(folder / "metrics.jsonl")
    ]
    return [row for row in kept if len(row) > 2]


@pytest.mark.parametrize("choice", choices("callback"))
def test_a_callback_that_ships_changes_no_number_of_a_run(choice: str, tmp_path: Path):
    plain = train(*tiny(tmp_path / "plain"))
    watched = train(*tiny(tmp_path / "watched"), f"callback=[{choice}]")
    assert row_values(plain.folder, "train/") == row_values(watched.folder, "train/")


def test_gradient_norms_are_written_every_so_many_steps_for_each_layer(tmp_path: Path):
    words = (
        "callback=[gradient_norms]",
        "callback.gradient_norms.every=4",
        "callback.gradient_norms.bins=5",
        "steps=8",
    )
    done = train(*tiny(tmp_path), *words, "clip=null", "log_every=1", "accumulate=2")
    measured = row_values(done.folder, "gradient_")
    assert [row["step"] for row in measured] == [4, 8]
    whole = {row["step"]: row["train/gradient_norm"] for row in rows(done.folder / "metrics.jsonl") if "lr" in row}
    for row in measured:
        layers = [value for key, value in row.items() if key.startswith("gradient_norm/")]
        assert np.sqrt(np.square(layers).sum()) == pytest.approx(whole[row["step"]], rel=1e-5)
        histogram = row["gradient_histogram/blocks.0"]
        assert (len(histogram["counts"]), len(histogram["edges"])) == (5, 6)


def test_rows_of_a_histogram_are_those_of_the_matrices():
    linear = torch.nn.Linear(3, 7, bias=False)
    linear.weight.grad = torch.tensor([10.0**k for k in range(-3, 4)])[:, None] * torch.tensor([[3.0, 4.0, 0.0]]) / 5
    values = measure_gradients(torch.nn.ModuleDict({"out": linear}), bins=6)
    histogram = values["gradient_histogram/out"]
    assert isinstance(histogram, Histogram)
    assert sum(histogram.counts) == 7
    assert (histogram.edges[0], histogram.edges[-1]) == (pytest.approx(-3), pytest.approx(3))


def test_a_run_of_before_there_were_callbacks_is_read_as_one_without(tmp_path: Path):
    recipe = compose(tiny(tmp_path))
    folder = train(*tiny(tmp_path)).folder
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config.pop("callback") == {}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    older = read_recipe(folder)
    assert older.config["callback"] == {}
    assert older.hash == recipe.hash == Recipe(config).hash


def test_a_callback_that_is_none_is_refused_before_training(tmp_path: Path):
    done = train(*tiny(tmp_path), "callback=[gradient_norms]", "callback.gradient_norms.every=0")
    assert (done.status, done.out) == (2, "")
    assert "callback.gradient_norms.every=0 is less than 1; give 1 or more" in done.err


def test_two_callbacks_of_one_class_have_states_of_their_own(tmp_path: Path):
    recipe = compose([*tiny(tmp_path), "callback=[gradient_norms]"])
    node = recipe.config["callback"]["gradient_norms"]
    recipe.config["callback"]["again"] = node
    first, second = build_callbacks(recipe, lambda step, row: None)
    assert first.state_key != second.state_key


def test_a_callback_outside_a_run_records_nothing():
    Callback().record(1, {"a/b": 1.0})


@pytest.mark.parametrize("knob", ["every", "bins"])
def test_a_knob_out_of_range_is_refused_by_name(knob: str):
    with pytest.raises(Refused, match=f"{knob}=0 is less than 1"):
        GradientNorms(**{knob: 0})
    with pytest.raises(Refused, match="count=0 is less than 1"):
        LastK(count=0)


# -- averages of weights


def test_an_average_weighs_steps_by_their_age_and_its_start_by_nothing():
    weight = torch.nn.Parameter(torch.zeros(3))
    task: Any = SimpleNamespace(
        decoder=SimpleNamespace(trainable_parameters=lambda: [("weight", weight)]), averagers=[]
    )
    trainer, ema = SimpleNamespace(global_step=0), Ema(decay=0.5)
    ema.on_train_start(trainer, task)
    for step in (1, 1, 2, 3):  # the first step has two micro-batches
        trainer.global_step = step
        weight.data.fill_(float(step))
        ema.on_train_batch_end(trainer, task, None, None, 0)
    ((p, average),) = task.averagers[0].average_weights()
    assert p is weight
    assert average.tolist() == pytest.approx([(1 * 1 + 2 * 2 + 4 * 3) / 7] * 3)


def test_the_last_weights_that_count_are_averaged():
    weight = torch.nn.Parameter(torch.zeros(3))
    decoder = SimpleNamespace(trainable_parameters=lambda: [("weight", weight)])
    task, trainer, last = (
        SimpleNamespace(decoder=decoder, averagers=[]),
        SimpleNamespace(global_step=0),
        LastK(every=2, count=3),
    )
    last.on_train_start(trainer, task)
    assert last.average_weights() == []
    for step in (1, 2, 2, 3, 4, 5, 6, 7, 8, 9):  # the second step has two micro-batches
        trainer.global_step = step
        weight.data.fill_(float(step))
        last.on_train_batch_end(trainer, task, None, None, 0)
    ((p, average),) = last.average_weights()
    assert p is weight
    assert average.tolist() == [(4 + 6 + 8) / 3] * 3


AVERAGES = [
    ["callback=[ema]", "callback.ema.decay=0.9"],
    ["callback=[last_k]", "callback.last_k.every=3", "callback.last_k.count=4"],
    ["optimizer=schedule_free"],
]


@pytest.mark.few(1)
@pytest.mark.parametrize("words", AVERAGES, ids=lambda words: words[0])
def test_averages_are_evaluated_and_kept_while_training_goes_on_without(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    overrides = [*tiny(tmp_path, *words), "schedule=constant"]
    whole = numbers(finished(*overrides))
    with monkeypatch.context() as patch:
        signalled(patch, 20)
        folder = train(*overrides).folder
    assert train(f"resume={folder}").status == 0
    assert numbers(folder) == whole
    rare = train(*tiny(tmp_path / "rare", *words), "schedule=constant", "evaluation.every=1000")
    assert row_values(rare.folder, "train/") == row_values(folder, "train/")  # evaluating leaves no trace


def test_what_is_kept_of_an_averaged_run_is_the_average(tmp_path: Path):
    plain, averaged = (finished(*tiny(tmp_path / f"{n}", *words)) for n, words in enumerate(([], ["callback=[ema]"])))
    kept, last = (load_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (averaged, plain))
    name, state = "embedding.weight", kept["callbacks"]["callback.ema"]
    average = state["averages"][name] / (1 - 0.99 ** state["steps"])
    torch.testing.assert_close(kept["state_dict"][f"decoder.{name}"], average)
    assert not torch.equal(average, last["state_dict"][f"decoder.{name}"])
    assert row_values(plain, "train/") == row_values(averaged, "train/")
    assert row_values(plain, "val/") != row_values(averaged, "val/")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["callback=[ema,last_k]"], r"callback=\[ema\] and callback=\[last_k\] each average"),
        (["callback=[gradient_norms,ema]", "optimizer=schedule_free"], r"optimizer=schedule_free and callback=\[ema\]"),
    ],
)
def test_two_averages_are_refused_as_one_would_be_thrown_away(words: list[str], named: str):
    (problem,) = check_recipe(compose(words))
    assert re.match(named, problem), problem
    assert check_recipe(compose(["callback=[gradient_norms,ema]"])) == []
