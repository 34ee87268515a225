"""The load of each expert of a mixture: a histogram in rows of the log, a picture in reports."""

import json
from pathlib import Path

import pytest
import torch
from tiny_runs import program, tiny

from gptlab.report.figures.experts import draw_expert_load, draw_loads
from gptlab.report.run import build_run_report
from gptlab.runs.tracker import Histogram
from gptlab.stats.results import Run
from gptlab.training.run_log import gather_histograms
from gptlab.training.task import list_values, stack_values


def test_sums_of_vectors_pass_through_a_checkpoint_bit_for_bit():
    sums = {
        "train/loss": torch.tensor(2.1, dtype=torch.float64),
        "train/expert_load/0": torch.tensor([0.1, 1.9, 1 / 3], dtype=torch.float64),
        "train/expert_load/1": torch.tensor([1.0, 1.0], dtype=torch.float64),
    }
    through = stack_values(json.loads(json.dumps(list_values(sums))))
    assert through.keys() == sums.keys()
    assert all(torch.equal(through[name], value) for name, value in sums.items())


def test_a_row_has_a_bar_for_each_expert():
    row = gather_histograms({"lr": 0.1, "train/expert_load/0[0]": 0.5, "train/expert_load/0[1]": 1.5})
    assert row == {"lr": 0.1, "train/expert_load/0": Histogram([0.5, 1.5], [0, 1, 2])}


def test_a_run_of_a_mixture_logs_and_draws_its_loads(tmp_path: Path):
    words = ["mlp=moe", "model.layers=2", "steps=10", "accumulate=2"]
    done = program("train.py", *tiny(tmp_path), *words)
    assert done.status == 0, done.err
    rows = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    logged = [row for row in rows if "train/loss" in row]
    assert len(logged) == 2
    for row in logged:
        for layer in (0, 1):
            load = row[f"train/expert_load/{layer}"]
            assert load["edges"] == [*range(len(load["counts"]) + 1)]
            # 1 is an even share: the mean over experts is 1 whatever the router does
            assert sum(load["counts"]) / len(load["counts"]) == pytest.approx(1)
            # the mean of each step's largest is at least the largest of the means
            assert row[f"train/busiest_expert/{layer}"] >= max(load["counts"]) - 1e-9
    figure = draw_expert_load(done.folder)
    assert figure is not None
    assert [row[0] for row in figure.rows] == [0, 1]
    titles = [
        getattr(item, "title", "") for section in build_run_report(done.folder).sections for item in section.items
    ]
    assert "Load of each expert" in titles
    runs = [Run("mlp=moe", seed, "finished", {}, folder=done.folder.name) for seed in (0, 1)]
    (of_study,) = draw_loads(runs, done.folder.parent)  # one picture an arm
    assert of_study.title == "Load of each expert, mlp=moe, seed 0"


def test_a_run_without_a_mixture_has_no_loads(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.0}\n')
    assert draw_expert_load(tmp_path) is None
