"""Laws of a task's signal and noise: equal arms are weak as often as is said, and what is weak is shown as such."""

import math
import statistics

import numpy as np
import pytest
from findings import comparison
from rich.console import Console

from gptlab.report.render import terminal
from gptlab.report.text.caveats import describe_signals
from gptlab.report.text.view import View
from gptlab.stats.downstream.signal_to_noise import (
    CHECKPOINTS,
    SignalToNoise,
    find_chance_ratio,
    measure_checkpoint_noise,
    measure_signal,
)
from gptlab.stats.downstream.tasks import is_task_key, list_task_metrics
from gptlab.stats.results import Comparison, Run, Stratum, make_metric
from gptlab.stats.study_comparison import compare_study
from gptlab.stats.study_plan import StudyPlan

TASK = "val/answer_bits_sciq"


def test_signal_and_noise_are_what_the_definition_says():
    values = {"a": {0: 2.0, 1: 2.2}, "b": {0: 1.4, 1: 1.8}}
    found = measure_signal(values, [0.03, 0.04])
    assert found is not None
    mean = statistics.fmean([2.1, 1.6])
    seed_sd = statistics.stdev([0.6, 0.4]) / math.sqrt(2)  # of a paired difference, of which each arm has half
    assert found.signal == pytest.approx(0.5 / mean)
    assert found.seed_noise == pytest.approx(seed_sd / mean)
    assert found.checkpoint_noise == pytest.approx(math.sqrt((0.03**2 + 0.04**2) / 2) / mean)
    assert found.ratio == pytest.approx(0.5 / seed_sd)
    # of two arms Tukey's studentized range is sqrt(2) t: 12.706 at a degree of freedom
    assert found.needed == pytest.approx(math.sqrt(2) * 12.706 / math.sqrt(2), rel=1e-3)


@pytest.mark.parametrize(("arms", "seeds"), [(2, 3), (4, 3), (6, 5)])
def test_equal_arms_are_weak_in_nineteen_studies_of_twenty(arms: int, seeds: int):
    random = np.random.default_rng(arms)
    weak = 0
    for _ in range(1000):
        # what a seed does to all arms alike is no noise
        scores = 3 + random.standard_normal(seeds) + 0.1 * random.standard_normal((arms, seeds))
        found = measure_signal({str(arm): dict(enumerate(row.tolist())) for arm, row in enumerate(scores)})
        weak += found is not None and found.is_weak
    assert weak / 1000 == pytest.approx(0.95, abs=0.025)
    far = {str(arm): {seed: 3 + arm + 0.01 * seed * arm for seed in range(seeds)} for arm in range(arms)}
    assert not measure_signal(far).is_weak  # type: ignore[union-attr]


def test_the_larger_noise_counts_and_one_seed_is_judged_by_checkpoints_alone():
    values = {"a": {0: 2.0}, "b": {0: 1.0}}
    by_checkpoints = measure_signal(values, [0.1, 0.1])
    assert by_checkpoints is not None
    assert (by_checkpoints.seed_noise, by_checkpoints.ratio) == (None, pytest.approx(10))
    assert by_checkpoints.needed == find_chance_ratio(2, 1, 2 * (CHECKPOINTS - 2))
    without = measure_signal(values)
    assert without is not None
    assert (without.ratio, without.needed, without.is_weak) == (None, None, False)
    assert measure_signal({"a": {0: 2.0}}) is None


def test_a_run_that_improves_steadily_has_no_noise_and_one_that_wobbles_has():
    steady = [3.0, 2.5, 2.2, 2.1, 2.0, 1.9, 1.8]
    assert measure_checkpoint_noise(steady) == pytest.approx(0, abs=1e-12)  # its last five lie on a line
    assert measure_checkpoint_noise(steady[:4]) is None
    wobbling = [2.2, 2.0, 2.2, 2.0, 2.2]
    residual = np.polyfit(range(5), wobbling, 1, full=True)[1][0]
    assert measure_checkpoint_noise(wobbling) == pytest.approx(math.sqrt(residual / 3))


def study(*tokenizers: str, decides: str | None = None) -> Comparison:
    """Two arms over three seeds, 0.3 bits apart, and the comparison of the task."""
    runs = []
    for arm, tokenizer in zip(("attention=mha", "attention=gqa"), tokenizers, strict=True):
        for seed in range(3):
            values = {"val/loss": 2.0 + 0.01 * seed, TASK: 3.0 - 0.3 * (arm[-3:] == "gqa") + 0.01 * seed * (seed - 1)}
            facts = {"tokenizer": tokenizer, "data_sha256": tokenizer, "tasks": "same"}
            noise = {"noise/answer_bits_sciq": 0.02}
            runs.append(Run(arm, seed, "finished", {**values, **noise}, facts=facts))
    plan = StudyPlan(study="s", baseline="attention=mha", seeds=[0, 1, 2], decides=decides)
    (stratum,) = compare_study(plan, runs).strata
    return next(item for item in stratum.comparisons if item.metric.key == TASK)


def test_every_task_of_a_study_is_compared_with_its_signal():
    found = study("char", "char")
    assert (found.metric.unit, found.metric.better) == ("bits/byte", "lower")
    assert found.contrasts[0].verdict == "better"
    assert found.signal is not None
    assert found.signal.checkpoint_noise == pytest.approx(0.02 / statistics.fmean([3.00667, 2.70667]), rel=1e-3)
    assert not found.signal.is_weak


def test_a_task_can_decide_between_arms_of_other_tokenizers_and_texts():
    assert study("char", "bpe").contrasts[0].verdict == "better"
    assert study("char", "bpe", decides=TASK).contrasts[0].verdict == "better"


def test_keys_of_tasks_are_known_from_others():
    assert all(map(is_task_key, ("val/answer_bits", TASK, "val/minimal_pairs", "val/minimal_pairs_a_b")))
    assert not any(map(is_task_key, ("val/loss", "val/bits_per_byte", "noise/answer_bits", "params", "nothing")))
    assert list_task_metrics([Run("a", 0, "finished", {"val/loss": 1.0, TASK: 2.0})]) == [make_metric(TASK)]


def test_a_weak_task_is_grey_and_says_why():
    strong, weak = (SignalToNoise(signal, 0.01, 0.004, signal / 0.01, 4.0, signal < 0.04) for signal in (0.08, 0.02))
    loss = comparison()
    tasks = [comparison(make_metric(f"val/minimal_pairs_{name}"), 0.7) for name in ("strong", "weak")]
    tasks = [Comparison(**{**vars(task), "signal": signal}) for task, signal in zip(tasks, (strong, weak), strict=True)]
    view = View(StudyPlan(study="s"), Stratum("", loss.baseline, [loss, *tasks], [], []), loss)
    lines = describe_signals(view)
    assert lines[0].startswith("minimal pairs strong: signal 8.00% of the mean, noise 1.00% over seeds and 0.40% over")
    assert lines[0].endswith("ratio 8.0, of which equal arms reach 4.0 once in twenty.")
    assert lines[1].endswith("weak, decide nothing by it.")
    console = Console(width=200, record=True, force_terminal=True, color_system="standard")
    terminal._print_cost_tables(view, console)
    text = console.export_text(styles=True)
    assert "(weak) minimal pairs weak" in text.replace("\n", " ")
    cells = next(line for line in text.splitlines() if "gqa" in line)
    assert "\x1b[2m" in cells  # dim
