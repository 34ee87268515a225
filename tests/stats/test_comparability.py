"""The unit of a verdict, and each sentence of fairness, follow from the facts of the runs."""

from dataclasses import replace
from typing import Any

import pytest

from gptlab.report.text.caveats import describe_margin, describe_rules
from gptlab.report.text.view import make_views
from gptlab.stats.comparability import ORDER_FACTS
from gptlab.stats.results import Findings, Run
from gptlab.stats.study_comparison import compare_study
from gptlab.stats.study_plan import StudyPlan

FACTS = {
    "data_sha256": "a text",
    "data.validation": "0.1",
    "tokenizer": "char",
    "batch_size": "16",
    "model.context": "64",
    "steps": "400",
    "optimizer.lr": "0.002",
    "optimizer._target_": "adamw",
}
VALUES = {"params": 100.0, "flops_per_token": 10.0, "tokens": 1000.0, "time/train_s": 9.0}
SAME = "All arms learn from the same tokens in the same order."
SHARED = "All arms are compared at a shared learning rate; one that is tuned for itself may do better."


def studied(facts: dict[str, str] | None = None, values: dict[str, float] | None = None, **knobs: Any) -> Findings:
    """Two arms, of which the second has other facts and values: it loses in nats and wins in bits."""
    runs = []
    for seed in range(3):
        noise = 0.001 * seed
        base = {**VALUES, "val/loss": 2.0 + noise, "val/bits_per_byte": 2.8 + noise}
        other = {**VALUES, "val/loss": 4.0 + 1.1 * noise, "val/bits_per_byte": 2.2 + 1.1 * noise, **(values or {})}
        runs.append(Run("base", seed, "finished", base, facts=FACTS))
        runs.append(Run("other", seed, "finished", other, facts={**FACTS, **(facts or {})}))
    plan = StudyPlan(study="planted", baseline="base", match="tokens", tune="shared")
    return compare_study(replace(plan, **knobs), runs)


def decision(found: Findings) -> tuple[str, str]:
    """The unit and the verdict."""
    comparison = found.strata[0].comparisons[0]
    return comparison.metric.unit, comparison.contrasts[0].verdict


def test_arms_that_share_all_facts_are_judged_in_nats_and_said_to():
    found = studied()
    assert decision(found) == ("nats/token", "worse")
    assert describe_rules(found) == [SAME, SHARED]


def test_two_tokenizers_are_judged_in_bits_of_the_same_text():
    found = studied({"tokenizer": "bpe"})
    assert decision(found) == ("bits/byte", "better")
    assert not any(one.metric.unit == "nats/token" for one in found.strata[0].comparisons)
    runs = [replace(run, values={"val/loss": run.values["val/loss"]}) for run in found.runs]
    bare = compare_study(found.plan, runs)
    assert decision(bare) == ("nats/token", "no verdict")
    assert any("different tokenizers and no bits per byte" in note for note in bare.strata[0].comparisons[0].notes)


@pytest.mark.parametrize("fact", ["data_sha256", "data.validation"])
@pytest.mark.parametrize("more", [{}, {"tokenizer": "bpe"}])
def test_arms_that_are_judged_by_other_texts_get_no_verdict(fact: str, more: dict[str, str]):
    found = studied({fact: "another", **more})
    seeded = [one for one in found.strata[0].comparisons if one.metric.key.startswith("val/")]
    assert {one.contrasts[0].verdict for one in seeded} == {"no verdict"}
    assert any("not judged by the same text: no verdict" in note for note in seeded[0].notes)
    assert found.strata[0].exchange is None


@pytest.mark.parametrize("fact", ORDER_FACTS)
def test_each_fact_that_decides_the_order_of_tokens_takes_the_sentence_back(fact: str):
    told = describe_rules(studied({fact: "another"}))
    assert SAME not in told
    assert f"Arms do not learn from the same tokens in the same order: they differ in {ORDER_FACTS[fact]}." in told


@pytest.mark.parametrize(("fact", "name"), [("optimizer.lr", "learning rate"), ("optimizer._target_", "optimizer")])
def test_a_rate_that_is_not_shared_is_not_called_so(fact: str, name: str):
    told = describe_rules(studied({fact: "another"}))
    assert SHARED not in told
    assert f"Arms differ in their {name}, which is not tuned for each." in told


def test_where_no_run_finished_nothing_is_said_of_what_the_arms_have_in_common():
    found = studied()
    runs = [replace(run, status="diverged", values={}) for run in found.runs]
    nothing = compare_study(found.plan, runs)
    assert SAME not in describe_rules(nothing)
    assert [describe_margin(view) for view in make_views(nothing)] == [""]


def test_schedules_of_another_mean_rate_are_said_to_differ_in_it():
    key = "schedule/mean_factor"
    line = "Schedules of different means, of the peak rate: base at 0.55, other at 0.89. What differs may be the rate; "
    plan = studied(values={key: 0.885})
    runs = [replace(run, values={key: 0.5475, **run.values}) for run in plan.runs]
    assert line + "try tune=grid." in describe_rules(compare_study(plan.plan, runs))
    alike = [replace(run, values={**run.values, key: 0.5475}) for run in runs]
    assert describe_rules(compare_study(plan.plan, alike)) == [SAME, SHARED]


@pytest.mark.parametrize(
    ("match", "values", "line"),
    [
        ("params", {"params": 102.0}, "All arms have the same number of parameters, within 0.5 %."),
        ("flops", {"tokens": 1100.0}, "All arms spend the same FLOPs, within 1 %."),
        ("time", {"time/train_s": 12.0}, "All arms train for the same measured seconds, within 5 %."),
    ],
)
def test_what_was_matched_is_said_where_the_runs_bear_it_out(match: str, values: dict[str, float], line: str):
    assert line in describe_rules(studied(match=match))
    assert line not in describe_rules(studied(values=values, match=match))


def test_a_fact_that_old_runs_do_not_know_is_not_known_to_differ():
    found = studied()
    runs = [replace(run, facts={}) if run.arm == "other" else run for run in found.runs]
    assert describe_rules(compare_study(found.plan, runs)) == [SAME, SHARED]
