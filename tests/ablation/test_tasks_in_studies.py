"""Laws of studies over several tasks: every arm in each, judged in each by itself, with Holm's p over all."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import COMPARED, program, strict, summary, tiny

from gptlab.ablation.cost import CostEstimator
from gptlab.ablation.question import StudySpec, parse_command
from gptlab.compose import compose
from gptlab.errors import Refused
from gptlab.report.findings import compare_study_folder
from gptlab.report.study import build_study_report
from gptlab.report.text.capabilities import build_capability_columns
from gptlab.report.text.view import make_views
from gptlab.stats.paired_tests import holm_adjust
from gptlab.stats.results import ACCURACY, Run
from gptlab.stats.study_comparison import compare_study
from gptlab.stats.study_plan import StudyPlan
from gptlab.training.cost.run_time import WINDOW_S

GAINS = {"easy": {"a": 0.3, "b": 0.2}, "hard": {"a": 0.02, "b": -0.4}}
"""Accuracy of arms less the baseline's, by task."""


def planted(decides: str | None = None) -> tuple[StudyPlan, list[Run]]:
    """Three seeds of three arms in two tasks and on text."""
    plan = StudyPlan(study="planted", baseline="base", seeds=[0, 1, 2], tasks={"easy": [], "hard": [], "text": []})
    runs = []
    for task in plan.tasks or ():
        for arm in ("base", "a", "b"):
            for seed in plan.seeds:
                wobble = 0.002 * ((seed + 2) * (len(arm) + ord(arm[0])) % 11 - 5)  # no two arms alike
                values = {"val/loss": 2.0 + wobble}
                if task != "text":
                    values["val/answer_accuracy"] = 0.5 + GAINS[task].get(arm, 0.0) + wobble
                facts = {"data_sha256": task, "steps": task}
                runs.append(Run(arm, seed, "finished", values, size=task, facts=facts))
    return replace(plan, decides=decides), runs


def test_each_task_is_judged_by_itself_by_its_accuracy_and_text_by_its_loss():
    findings = compare_study(*planted())
    assert [stratum.size for stratum in findings.strata] == ["easy", "hard", "text"]
    assert [stratum.comparisons[0].metric.key for stratum in findings.strata] == [
        "val/answer_accuracy",
        "val/answer_accuracy",
        "val/loss",
    ]
    verdicts = {
        (stratum.size, contrast.arm): contrast.verdict
        for stratum in findings.strata
        for contrast in stratum.comparisons[0].contrasts
    }
    assert verdicts["easy", "a"] == verdicts["easy", "b"] == "better"
    assert verdicts["hard", "b"] == "worse"
    assert not findings.scalings


def test_p_is_corrected_over_the_comparisons_of_all_tasks():
    findings = compare_study(*planted())
    contrasts = [contrast for stratum in findings.strata for contrast in stratum.comparisons[0].contrasts]
    wanted = holm_adjust({str(number): contrast.p for number, contrast in enumerate(contrasts)})
    assert [contrast.p_holm for contrast in contrasts] == pytest.approx([wanted[str(n)] for n in range(6)])
    assert all(0 <= contrast.p <= contrast.p_holm <= 1 for contrast in contrasts)


def test_another_metric_may_decide():
    findings = compare_study(*planted("val/loss"))
    assert {stratum.comparisons[0].metric.key for stratum in findings.strata} == {"val/loss"}
    assert {measure.metric for stratum in findings.strata[:2] for measure in stratum.comparisons[1:]} == {ACCURACY}


def test_the_table_has_a_row_for_each_task_and_a_column_for_each_arm():
    task, by, *arms = build_capability_columns(make_views(compare_study(*planted())))
    assert task.cells == ["easy", "hard", "text"]
    assert by.cells == ["accuracy ↑", "accuracy ↑", "loss ↓"]
    assert [column.head for column in arms] == ["base", "a", "b"]
    assert arms[1].cells[0].startswith("0.8")
    assert arms[1].cells[0].endswith("] ✓")
    assert arms[2].cells[1].endswith("✗")


STUDY = (
    "attention=mha,linear data=parity,induction steps=4 seeds=2 looks=[2] model.width=16 "
    "model.layers=1 model.context=16 batch_size=4 evaluation.tokens=64 sample.count=0 timing=0 tracking=disabled jobs=1"
)


@pytest.mark.thorough
def test_several_data_beside_another_axis_are_tasks(tmp_path: Path):
    done = program("ablate.py", *STUDY.split(), f"outputs={tmp_path}", "name=two")
    assert done.status in COMPARED, done.err
    folder = tmp_path / "ablations" / "two"
    findings = compare_study_folder(folder)
    assert [stratum.size for stratum in findings.strata] == ["parity", "induction"]
    assert {contrast.verdict for stratum in findings.strata for contrast in stratum.comparisons[0].contrasts} != {
        "no verdict"
    }
    assert not [note for note in findings.notes if "texts" in note]
    assert "capabilities" in done.out
    report = build_study_report(findings, tmp_path / "runs")
    titles = [getattr(item, "title", "") for section in report.sections for item in section.items]
    assert "Capabilities: accuracy by task, and the loss on text" in titles
    assert "Accuracy by length" in titles
    tasks = {"parity": ["data=parity"], "induction": ["data=induction"]}
    assert strict((folder / "study.json").read_text())["tasks"] == tasks
    twins = {summary(run)["data_sha256"] for run in (tmp_path / "runs").glob("*parity*")}
    assert len(twins) == 1  # all arms and seeds are judged by the same examples


@pytest.mark.thorough
def test_a_registered_plan_says_what_decides_in_which_task(tmp_path: Path):
    tasks = "tasks={easy:['data=parity'],text:['data=shakespeare']}"
    words = STUDY.replace("data=parity,induction", tasks).split()
    done = program("ablate.py", *words, f"outputs={tmp_path}", "name=asked", "register=true")
    assert done.status in COMPARED, done.err
    for line in (
        "val/answer_accuracy in share of answers, higher is better (easy); "
        "val/loss in nats/token, lower is better (text)",
        "equivalent within 0.01 share of answers (easy); 0.5 % of the baseline's mean (text)",
        "Holm over 2",
    ):
        assert line in " ".join(done.out.split())


@pytest.mark.parametrize(
    ("axes", "fixed", "line"),
    [
        ({"attention": ["mha", "linear"]}, {"tasks": "tasks=nowhere.yaml"}, "tasks=nowhere.yaml cannot be read"),
        (
            {"attention": ["mha", "linear"]},
            {"tasks": "tasks={a:['steps=3'],b:['steps=3']}"},
            "b/attention=mha is a/attention=mha here, the same under another name",
        ),
        ({"attention": ["mha", "linear"]}, {"decides": "decides=val/nothing"}, "decides=val/nothing is no key"),
        (
            {"attention": ["mha", "linear"]},
            {"tasks": "tasks={a:['data=copy']}", "ladder": "ladder=[nano,micro]"},
            r"tasks: a do not go with ladder=\[nano,micro\]; leave one of them out",
        ),
        ({"clip": ["1", "1.0"]}, {"tasks": "tasks={a:['data=copy']}"}, "clip has no effect with the rest as it is"),
    ],
)
def test_what_is_wrong_with_tasks_is_said_in_one_line(
    axes: dict[str, list[str]], fixed: dict[str, str], line: str, tmp_path: Path
):
    with pytest.raises(Refused, match=line):
        parse_command(axes, {**fixed, "outputs": f"outputs={tmp_path}"})


TASKS = "tasks={short:['data=copy','data.length=4','model.context=16'],long:['data=parity','model.context=32']}"
SMALL = {key: f"{key}={value}" for key, value in {"model.width": 16, "model.layers": 1, "sample.count": 0}.items()}


def specify(tmp_path: Path, axes: dict[str, list[str]], *words: str) -> StudySpec:
    fixed = {word.partition("=")[0]: word for word in (TASKS, *words)}
    return parse_command(axes, {**SMALL, **fixed, "outputs": f"outputs={tmp_path}"})


def test_an_arm_that_is_another_one_in_one_task_is_left_out_there_alone(tmp_path: Path):
    spec = specify(tmp_path, {"attention.window": ["null", "16"]})
    assert [variant.key for variant in spec.variants] == [
        "short/attention.window=null",
        "long/attention.window=null",
        "long/attention.window=16",
    ]
    assert {size: variant.key for size, variant in spec.baselines.items()} == {
        "short": "short/attention.window=null",
        "long": "long/attention.window=null",
    }
    assert any("short/attention.window=16 is left out" in note for note in spec.notes)


def test_grids_are_crossed_with_tasks_and_exclude_leaves_an_arm_out_of_all(tmp_path: Path):
    spec = specify(tmp_path, {}, "grids=['attention=linear norm=layernorm','mlp=gelu']", "exclude=['mlp=gelu']")
    arms = ["baseline", "attention=linear norm=layernorm"]
    assert [(variant.size, variant.name) for variant in spec.variants] == [
        (task, arm) for task in ("short", "long") for arm in arms
    ]
    assert {variant.name for variant in spec.baselines.values()} == {"baseline"}


def test_a_word_that_a_task_overrules_is_named(tmp_path: Path):
    spec = specify(tmp_path, {"attention": ["mha", "gqa"]}, "model.context=48", "steps=9")
    assert [note for note in spec.notes if "does nothing" in note] == [
        "model.context=48 does nothing in short: model.context=16 of the task stands behind it",
        "model.context=48 does nothing in long: model.context=32 of the task stands behind it",
    ]


# -- downstream tasks


def write_questions(folder: Path, answer: str, count: int) -> list[str]:
    """Write a file of questions; return the words that make it a metric."""
    (folder / "q.jsonl").write_text(f'{{"question": "the rights to", "choices": ["{answer}"], "answer": 0}}\n' * count)
    return [f"metric.answer_bits.path={folder}/q.jsonl", "metric=[bits_per_byte,answer_bits]"]


def test_a_task_that_the_tokenizer_cannot_write_is_refused_in_the_bill(tmp_path: Path):
    words = write_questions(tmp_path, "modifié", 2)
    answer = program("ablate.py", *tiny(tmp_path), *words, "attention=mha,gqa", "dry_run=true")
    assert answer.status == 2
    assert "q.jsonl, text 1: tokenizer=char has never seen" in answer.err
    assert answer.err.count("\n") == 1
    assert "cells" not in answer.out


def test_the_estimate_of_a_run_counts_its_tasks(tmp_path: Path):
    seconds = []
    for count in (100, 400):
        words = write_questions(tmp_path, "modify", count)
        recipe, costs = compose(tiny(tmp_path, *words)), CostEstimator()
        work = costs.count_task_work(recipe)
        assert work == (count, count * 16)  # a whole context each
        seconds.append(costs.estimate_seconds(recipe, step_ms=1.0))
    # at step 20, at step 40 and at the end; a step of 8 x 16 tokens takes as long as three forward passes
    of_text = 16 * 0.001 / 3 / (8 * 16) + WINDOW_S
    assert seconds[1] - seconds[0] == pytest.approx(3 * 300 * of_text)
