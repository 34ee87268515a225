"""What happened while runs trained, from their folders alone: rows as columns, and curves by arm over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import stats

from gptlab.runs.record import read_rows
from gptlab.stats.results import Run

MOST = 300
"""Points of a curve that are shown; of more, as many evenly spread ones, the first and the last one among them."""
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
"""Where, mean, low, high; low and high are the mean where there is one seed."""


@dataclass(frozen=True)
class History:
    """One run's rows, a column a key, NaN where a row says nothing. `seconds`: of training, without evaluations."""

    arm: str
    seed: int
    columns: dict[str, np.ndarray]

    def values(self, key: str, over: Axis = "tokens") -> tuple[np.ndarray, np.ndarray]:
        """Where a value was logged, and the value; both without NaN. Of two at one place the later one counts."""
        there = ~np.isnan(self.columns[key])
        at, first = np.unique(self.columns[over][there][::-1], return_index=True)
        return at, self.columns[key][there][::-1][first]


@dataclass(frozen=True)
class Curve:
    """One arm. `thinned`: how many points there were, if some are left out."""

    arm: str
    points: list[Point]
    seeds: int
    thinned: int = 0


def read(runs: Sequence[Run], pool: Path) -> list[History]:
    """The histories of the arms' runs that finished, each file read once."""
    return [
        history(pool / run.folder, run.arm, run.seed)
        for run in runs
        if run.role == "arm" and run.status == "finished" and run.folder
    ]


def history(folder: Path, arm: str = "", seed: int = 0) -> History:
    """One run's."""
    missing = float("nan")
    kept = [
        [missing if (value := row.get(key)) is None else value for key in KEYS]
        for row in read_rows(folder / "metrics.jsonl")
    ]
    table = np.array(kept, dtype=float).reshape(-1, len(KEYS))
    columns: dict[str, np.ndarray] = dict(zip(KEYS, table.T, strict=True))
    return History(arm, seed, {**columns, "seconds": _seconds(columns)})


def _seconds(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Of training until each row: steps times their milliseconds, summed."""
    timed = ~np.isnan(columns["time/step_ms"])
    steps = np.concatenate([[0.0], columns["step"][timed]])
    taken = np.concatenate([[0.0], np.cumsum(np.diff(steps) * columns["time/step_ms"][timed] / 1000)])
    return np.interp(columns["step"], steps, taken)


def means(found: list[History], key: str, over: Axis = "tokens") -> list[Curve]:
    """The mean over seeds where all of them have a value, with its 95 % t-interval."""
    made = [_curve(arm, [one.values(key, over) for one in some], over) for arm, some in _by_arm(found).items()]
    return [curve for curve in made if curve.points]


def differences(found: list[History], key: str, baseline: str, over: Axis = "tokens") -> list[Curve]:
    """Each arm less the baseline, by seed, at the same tokens or after the same seconds."""
    base = {one.seed: one.values(key, over) for one in found if one.arm == baseline}
    made = []
    for arm, some in _by_arm(found).items():
        pairs = [(one.values(key, over), base[one.seed]) for one in some if one.seed in base]
        if arm != baseline and pairs:
            made.append(_curve(arm, [_less(here, there, over) for here, there in pairs], over))
    return [curve for curve in made if curve.points]


def reached(found: list[History], key: str, target: float) -> dict[str, list[float]]:
    """Seconds of training until a value first was at or below the target, by arm, of the seeds that came there."""
    made: dict[str, list[float]] = {}
    for one in found:
        at, values = one.values(key, "seconds")
        below = np.flatnonzero(values <= target)
        made.setdefault(one.arm, []).extend([float(at[below[0]])] if len(below) else [])
    return made


def _by_arm(found: list[History]) -> dict[str, list[History]]:
    made: dict[str, list[History]] = {}
    for one in found:
        made.setdefault(one.arm, []).append(one)
    return made


Values = tuple[np.ndarray, np.ndarray]


def _less(here: Values, there: Values, over: Axis) -> Values:
    if over == "seconds":
        at = _grid([here, there])
        return at, np.interp(at, *here) - np.interp(at, *there)
    at, mine, others = np.intersect1d(here[0], there[0], return_indices=True)
    return at, here[1][mine] - there[1][others]


def _grid(some: list[Values]) -> np.ndarray:
    """Places that all of them reach: clocks never agree."""
    if any(len(at) < 2 for at, _ in some):
        return np.empty(0)
    first, last = max(at[0] for at, _ in some), min(at[-1] for at, _ in some)
    return np.linspace(first, last, MOST) if last > first else np.empty(0)


def _curve(arm: str, seeds: list[Values], over: Axis) -> Curve:
    if over == "seconds":
        shared = _grid(seeds)
        table = np.array([np.interp(shared, *one) for one in seeds if len(shared)])
    else:
        shared = reduce(np.intersect1d, [at for at, _ in seeds])
        table = np.array([values[np.isin(at, shared)] for at, values in seeds])
    many = len(shared)
    if not many:
        return Curve(arm, [], len(seeds))
    kept = np.arange(many) if many <= MOST else np.linspace(0, many - 1, MOST).astype(int)
    mean, half = table.mean(0), np.zeros(many)
    if len(seeds) > 1:
        edge = float(stats.t.ppf(0.975, len(seeds) - 1)) / len(seeds) ** 0.5
        half = edge * table.std(0, ddof=1)
    points = [(float(shared[i]), float(mean[i]), float(mean[i] - half[i]), float(mean[i] + half[i])) for i in kept]
    return Curve(arm, points, len(seeds), many if many > len(kept) else 0)


# -- other files of a run


def by_position(runs: Sequence[Run], pool: Path) -> dict[str, list[float]]:
    """Mean nats at each place of the window, over an arm's seeds."""
    found: dict[str, list[np.ndarray]] = {}
    for run in runs:
        if run.role == "arm" and run.status == "finished":
            means = of_positions(pool / run.folder)
            found.setdefault(run.arm, []).extend([] if means is None else [np.array(means)])
    alike = {arm: one for arm, one in found.items() if len({values.shape for values in one}) == 1}
    return {arm: np.mean(one, 0).tolist() for arm, one in alike.items()}


def of_positions(folder: Path) -> list[float] | None:
    """One run's mean nats at each place of the window."""
    path = folder / "evaluation.npz"
    if not path.exists():
        return None
    with np.load(path) as kept:
        return kept["by_position"].tolist() if "by_position" in kept else None


def last_texts(folder: Path) -> list[dict]:
    """The rows of the final samples."""
    found = list(read_rows(folder / "samples.jsonl"))
    return [row for row in found if row.get("step") == found[-1].get("step")]


def texts(runs: Sequence[Run], pool: Path, count: int = 2, length: int = 400) -> dict[str, list[str]]:
    """The last texts of each arm's first seed, cut to a length."""
    found: dict[str, list[str]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        if run.role == "arm" and run.status == "finished" and run.arm not in found:
            found[run.arm] = [row["text"][:length] for row in last_texts(pool / run.folder)][-count:]
    return {arm: one for arm, one in found.items() if one}
