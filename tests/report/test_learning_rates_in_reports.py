"""Arms that want other learning rates: the bill says so, and the verdict names the rates."""

from dataclasses import replace
from pathlib import Path

import planted_runs as planted
import pytest
from tiny_runs import program, tiny

from gptlab.report.text.sentences import describe_verdicts
from gptlab.report.text.view import make_views
from gptlab.stats.results import Run


def give_rates(runs: list[Run], optimizers: dict[str, tuple[str, float]]) -> list[Run]:
    """The runs, each with the optimizer and the learning rate of its arm."""
    rated = []
    for run in runs:
        name, rate = optimizers[run.arm]
        rated.append(replace(run, facts={"optimizer._target_": name, "optimizer.lr": str(rate)}))
    return rated


@pytest.mark.parametrize("off", [-0.1, 0.0001, 0.0])
@pytest.mark.parametrize(
    ("other", "ends"),
    [
        (("muon", 0.02), "Learning rates: 0.02 against 0.004, not tuned."),
        (("soap", 0.004), "Learning rates: 0.004 against 0.004, not tuned."),
        (("adamw", 0.004), ""),
    ],
)
def test_a_verdict_names_the_rates_of_arms_that_differ_in_them(off: float, other: tuple[str, float], ends: str):
    runs = give_rates(planted.runs(3, other=off), {"base": ("adamw", 0.004), "other": other})
    (view,) = make_views(planted.judged(runs))
    (sentence,) = describe_verdicts(view)
    assert ("Learning rates" in str(sentence)) == bool(ends)
    assert ends in str(sentence)


def test_a_verdict_names_the_rates_that_were_tuned():
    facts = {"base": ("adamw", 0.004), "other": ("adamw", 0.004)}
    runs = [
        replace(run, lr=rate, values={**run.values, "val/loss": run.values["val/loss"] + (rate != best[run.arm])})
        for run in give_rates(planted.runs(3, other=-0.1), facts)
        for best in [{"base": 0.004, "other": 0.012}]
        for rate in (0.002, 0.004, 0.012, 0.03)
    ]
    (view,) = make_views(planted.judged(runs, tune="grid"))
    (sentence,) = describe_verdicts(view)
    assert "Learning rates: 0.012 against 0.004, each the best of its grid." in str(sentence)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["optimizer=adamw,muon"],
            "arms differ in optimizer, and no learning rate is tuned: optimizer=adamw at 0.004, "
            "optimizer=muon at 0.02; tune=grid finds each arm's best",
        ),
        (["schedule=cosine,wsd"], "arms differ in schedule, and no learning rate is tuned: "),
        (["optimizer=adamw,muon", "tune=grid"], ""),
        (["norm=rmsnorm,layernorm"], ""),
    ],
)
def test_the_bill_recommends_to_tune_what_wants_other_rates(tmp_path: Path, words: list[str], line: str):
    bill = program("ablate.py", *tiny(tmp_path), *words, "timing=0", "dry_run=true")
    assert bill.status == 0, bill.err
    assert ("no learning rate is tuned" in bill.out) == bool(line)
    assert line in bill.out


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("words", "is_named"),
    [
        (["position=rope,learned"], True),
        (["position=rope,learned", "tune=grid"], False),
        (["position=rope,learned", "optimizer.lr=1e-2"], False),
        (["position=learned", "norm=rmsnorm,layernorm"], False),
        (["position=rope,alibi"], False),
    ],
)
def test_the_bill_names_a_choice_that_was_best_at_another_rate(tmp_path: Path, words: list[str], is_named: bool):
    bill = program("ablate.py", *tiny(tmp_path), *words, "timing=0", "dry_run=true")
    assert bill.status == 0, bill.err
    line = "position=learned was best at 3.3 times its rate at nano and micro"
    assert (line in " ".join(bill.out.split())) == is_named
