"""What happened while a study's runs trained: curves by arm with t-intervals over seeds, from run folders alone."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from scipy import stats

from gptlab.ablation.outcome import Run
from gptlab.record import rows

MOST = 300
"""Points of a curve that are shown; of more, as many evenly spread ones, the last one among them."""
Point = tuple[float, float, float, float]
"""Tokens, mean, low, high; low and high are the mean where there is one seed."""


@dataclass(frozen=True)
class Curve:
    """One arm. `thinned`: how many points there were, if some are left out."""

    arm: str
    points: list[Point]
    seeds: int
    thinned: int = 0


def logged(runs: list[Run], pool: Path, key: str) -> dict[str, dict[int, dict[float, float]]]:
    """A logged value by arm, seed and tokens, of the runs that finished."""
    found: dict[str, dict[int, dict[float, float]]] = {}
    for run in runs:
        if run.role == "arm" and run.status == "finished":
            values = {
                row["tokens"]: row[key] for row in rows(pool / run.folder / "metrics.jsonl") if row.get(key) is not None
            }
            found.setdefault(run.arm, {})[run.seed] = values
    return found


def means(found: dict[str, dict[int, dict[float, float]]]) -> list[Curve]:
    """The mean over seeds where all of them have a value, with its 95 % interval."""
    return [curve for arm, seeds in found.items() if (curve := _curve(arm, [*seeds.values()])).points]


def differences(found: dict[str, dict[int, dict[float, float]]], baseline: str) -> list[Curve]:
    """Each arm less the baseline, by seed and tokens."""
    base = found.get(baseline, {})
    made = []
    for arm, seeds in found.items():
        pairs = [(values, base[seed]) for seed, values in seeds.items() if seed in base and arm != baseline]
        off = [{at: here[at] - there[at] for at in here if at in there} for here, there in pairs]
        if off and (curve := _curve(arm, off)).points:
            made.append(curve)
    return made


def _curve(arm: str, seeds: list[dict[float, float]]) -> Curve:
    shared = sorted(set.intersection(*map(set, seeds))) if seeds else []
    kept = shared if len(shared) <= MOST else [shared[int(at)] for at in np.linspace(0, len(shared) - 1, MOST)]
    edge = float(stats.t.ppf(0.975, len(seeds) - 1)) / len(seeds) ** 0.5 if len(seeds) > 1 else 0.0
    points = []
    for at in kept:
        values = [one[at] for one in seeds]
        mean, half = fmean(values), edge * stdev(values) if len(values) > 1 else 0.0
        points.append((float(at), mean, mean - half, mean + half))
    return Curve(arm, points, len(seeds), len(shared) if len(shared) > len(kept) else 0)


def by_position(runs: list[Run], pool: Path) -> dict[str, list[float]]:
    """Mean nats at each place of the window, over an arm's seeds."""
    found: dict[str, list[Any]] = {}
    for run in runs:
        path = pool / run.folder / "evaluation.npz"
        if run.role == "arm" and run.status == "finished" and path.exists():
            with np.load(path) as kept:
                found.setdefault(run.arm, []).append(kept["by_position"])
    alike = {arm: one for arm, one in found.items() if len({values.shape for values in one}) == 1}
    return {arm: np.mean(one, 0).tolist() for arm, one in alike.items()}


def texts(runs: list[Run], pool: Path, count: int = 2, length: int = 400) -> dict[str, list[str]]:
    """The last texts of each arm's first seed, cut to a length."""
    found: dict[str, list[str]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        if run.role == "arm" and run.status == "finished" and run.arm not in found:
            found[run.arm] = [row["text"][:length] for row in rows(pool / run.folder / "samples.jsonl")][-count:]
    return {arm: one for arm, one in found.items() if one}
