"""Training histories of runs, from their folders alone: logged rows as columns, and curves by arm over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import stats

from gptlab.report.evaluation_file import read_evaluation
from gptlab.runs.record import read_rows
from gptlab.stats.results import Run

MAX_POINTS = 300
"""Points of a curve that are drawn; of more, as many evenly spread ones, the first and the last one among them."""
MAX_TEXTS, MAX_CHARACTERS = 2, 400
"""Texts of an arm beside those of others, and their length."""
KEYS = (
    "step",
    "tokens",
    "train/loss",
    "val/loss",
    "lr",
    "train/gradient_norm",
    "time/step_ms",
    "time/evaluate_s",
)
Axis = Literal["tokens", "seconds"]
Point = tuple[float, float, float, float]
"""Position, mean, low, high; low and high are the mean where there is one seed."""
Series = tuple[np.ndarray, np.ndarray]
"""Positions in rising order, and values."""


@dataclass(frozen=True)
class History:
    """One run's rows as columns by key, NaN where a row has no value.

    The column `seconds` is of training, without evaluations.
    """

    arm: str
    seed: int
    columns: dict[str, np.ndarray]

    def get_series(self, key: str, axis: Axis = "tokens") -> Series:
        """Return where a value was logged, and the value; both without NaN."""
        is_logged = ~np.isnan(self.columns[key])
        # reversed, as np.unique keeps the first of equals: of two rows at one position the later one counts
        positions, rows = np.unique(self.columns[axis][is_logged][::-1], return_index=True)
        return positions, self.columns[key][is_logged][::-1][rows]


@dataclass(frozen=True)
class Curve:
    """Mean and interval of one arm. `thinned` is how many points there were, if some are left out, else 0."""

    arm: str
    points: list[Point]
    seeds: int
    thinned: int = 0


def read_histories(runs: Sequence[Run], pool: Path) -> list[History]:
    """Return the histories of the arms' runs that finished; each file is read once."""
    return [read_history(pool / run.folder, run.arm, run.seed) for run in runs if _is_finished_arm(run) and run.folder]


def _is_finished_arm(run: Run) -> bool:
    return run.role == "arm" and run.status == "finished"


def read_history(folder: Path, arm: str = "", seed: int = 0) -> History:
    """Return the history of one run."""
    rows = []
    for row in read_rows(folder / "metrics.jsonl"):
        values = [row.get(key) for key in KEYS]
        rows.append([float("nan") if value is None else value for value in values])
    table = np.array(rows, dtype=float).reshape(-1, len(KEYS))
    columns: dict[str, np.ndarray] = dict(zip(KEYS, table.T, strict=True))
    return History(arm, seed, {**columns, "seconds": _compute_seconds(columns)})


def _compute_seconds(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Return the seconds of training until each row: steps times their milliseconds, summed."""
    # rows of evaluations are not timed
    is_timed = ~np.isnan(columns["time/step_ms"])
    # a row's milliseconds are the mean of the steps since the last timed row
    steps = np.concatenate([[0.0], columns["step"][is_timed]])
    seconds = np.concatenate([[0.0], np.cumsum(np.diff(steps) * columns["time/step_ms"][is_timed] / 1000)])
    # rows between two timed ones lie between their seconds
    return np.interp(columns["step"], steps, seconds)


# -- curves over seeds


def compute_mean_curves(histories: list[History], key: str) -> list[Curve]:
    """Return the mean over seeds at the tokens where all of them have a value, with its 95 % t-interval."""
    curves = []
    for arm, group in _group_by_arm(histories).items():
        curves.append(_average_series(arm, [history.get_series(key) for history in group], "tokens"))
    return [curve for curve in curves if curve.points]


def compute_difference_curves(histories: list[History], key: str, baseline: str, axis: Axis = "tokens") -> list[Curve]:
    """Return each arm less the baseline, by seed, at the same tokens or after the same seconds."""
    baseline_series = {history.seed: history.get_series(key, axis) for history in histories if history.arm == baseline}
    curves = []
    for arm, group in _group_by_arm(histories).items():
        if arm == baseline:
            continue
        differences = []
        for history in group:
            if history.seed in baseline_series:
                differences.append(_subtract(history.get_series(key, axis), baseline_series[history.seed], axis))
        if differences:
            curves.append(_average_series(arm, differences, axis))
    return [curve for curve in curves if curve.points]


def find_times_to_target(histories: list[History], key: str, target: float) -> dict[str, list[float]]:
    """Return the seconds of training until a value first was at or below the target, by arm.

    Seeds that never reached it have no entry.
    """
    times: dict[str, list[float]] = {}
    for history in histories:
        seconds, values = history.get_series(key, "seconds")
        reached = np.flatnonzero(values <= target)
        # the first time, not the last: a loss that rises again had reached it
        times.setdefault(history.arm, []).extend([float(seconds[reached[0]])] if len(reached) else [])
    return times


def _group_by_arm(histories: list[History]) -> dict[str, list[History]]:
    groups: dict[str, list[History]] = {}
    for history in histories:
        groups.setdefault(history.arm, []).append(history)
    return groups


def _subtract(series: Series, baseline: Series, axis: Axis) -> Series:
    if axis == "seconds":
        grid = _make_shared_grid([series, baseline])
        return grid, np.interp(grid, *series) - np.interp(grid, *baseline)
    # tokens are counted, so that both have the very same positions; seconds are not, and are interpolated
    positions, rows, baseline_rows = np.intersect1d(series[0], baseline[0], return_indices=True)
    return positions, series[1][rows] - baseline[1][baseline_rows]


def _make_shared_grid(many_series: list[Series]) -> np.ndarray:
    """Return evenly spread positions that all series reach, since clocks never agree; empty if there are none."""
    if any(len(positions) < 2 for positions, _ in many_series):
        return np.empty(0)
    first = max(positions[0] for positions, _ in many_series)
    last = min(positions[-1] for positions, _ in many_series)
    return np.linspace(first, last, MAX_POINTS) if last > first else np.empty(0)


def _average_series(arm: str, seeds: list[Series], axis: Axis) -> Curve:
    """Return the mean of the series of all seeds with its interval, thinned to `MAX_POINTS`."""
    if axis == "seconds":
        shared = _make_shared_grid(seeds)
        table = np.array([np.interp(shared, *series) for series in seeds if len(shared)])
    else:
        # tokens are the same numbers in all runs, so no interpolation is needed
        shared = reduce(np.intersect1d, [positions for positions, _ in seeds])
        table = np.array([values[np.isin(positions, shared)] for positions, values in seeds])
    count = len(shared)
    if not count:
        return Curve(arm, [], len(seeds))
    indices = np.arange(count) if count <= MAX_POINTS else np.linspace(0, count - 1, MAX_POINTS).astype(int)
    mean, half_width = table.mean(0), np.zeros(count)  # table is (seeds, count)
    if len(seeds) > 1:
        # each point by its own seeds: no variance is shared along a curve
        factor = float(stats.t.ppf(0.975, len(seeds) - 1)) / len(seeds) ** 0.5
        half_width = factor * table.std(0, ddof=1)
    bands = np.stack([shared, mean, mean - half_width, mean + half_width])
    points: list[Any] = [tuple(bands[:, index].tolist()) for index in indices]
    return Curve(arm, points, len(seeds), count if count > len(indices) else 0)


# -- other files of a run


def average_loss_by_position(runs: Sequence[Run], pool: Path) -> dict[str, list[float]]:
    """Return the mean nats at each position of the window over an arm's seeds, by arm.

    Arms whose seeds have windows of several lengths are left out.
    """
    losses: dict[str, list[np.ndarray]] = {}
    for run in runs:
        if _is_finished_arm(run):
            by_position = read_loss_by_position(pool / run.folder)
            losses.setdefault(run.arm, []).extend([] if by_position is None else [np.array(by_position)])
    averages = {}
    for arm, arrays in losses.items():
        if len({array.shape for array in arrays}) == 1:
            averages[arm] = np.mean(arrays, 0).tolist()
    return averages


def read_loss_by_position(folder: Path) -> list[float] | None:
    """Return one run's mean nats at each position of the window; None if it has not been evaluated so."""
    arrays = read_evaluation(folder, "by_position")
    return arrays["by_position"].tolist() if arrays else None


def read_loss_in_document(folder: Path) -> tuple[list[int], list[float]] | None:
    """Return numbers of tokens before a target in its document, and mean nats from each to the next.

    None if the run did not ask where documents begin.
    """
    arrays = read_evaluation(folder, "by_document_place", "targets_by_document_place")
    if not arrays:
        return None
    means, counts = arrays["by_document_place"], arrays["targets_by_document_place"]
    levels = np.flatnonzero(counts)
    return (2**levels // 2).tolist(), means[levels].tolist()


def read_last_texts(folder: Path) -> list[dict]:
    """Return the rows of the final samples."""
    rows = list(read_rows(folder / "samples.jsonl"))
    return [row for row in rows if row.get("step") == rows[-1].get("step")]


def read_arm_texts(runs: Sequence[Run], pool: Path) -> dict[str, list[str]]:
    """Return the last texts of each arm's first seed, `MAX_TEXTS` of them, cut to `MAX_CHARACTERS`."""
    texts: dict[str, list[str]] = {}
    # the same seed for all arms, as far as it finished: texts then began from the same draws
    for run in sorted(runs, key=lambda run: run.seed):
        if _is_finished_arm(run) and run.arm not in texts:
            last_rows = read_last_texts(pool / run.folder)[-MAX_TEXTS:]
            texts[run.arm] = [row["text"][:MAX_CHARACTERS] for row in last_rows]
    return {arm: arm_texts for arm, arm_texts in texts.items() if arm_texts}
