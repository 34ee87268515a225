"""How a time follows a size: points named `size=value`, timed in the same rounds, to slopes. Pure.

elasticity   the slope of ln t over ln x, with a 95 % interval: blocks of neighbouring rounds are drawn again
AIC          of a line less that of a parabola, each fitted to t / median t of all rounds: above 0 the parabola wins
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from gptlab.stats.timing import again

POINT = re.compile(r"(?:(.*) )?([\w.]+)=(\d+(?:\.\d+)?)")
"""A point's name: what it is of, a size, its value."""


def number(text: str) -> float:
    """A point's value, whole where it was written so."""
    return float(text) if "." in text else int(text)


def sweeps(names: list[str]) -> dict[str, dict[str, float]]:
    """Sizes by the name of their sweep, then of the point; ascending."""
    found: dict[str, dict[str, float]] = {}
    for name in names:
        if matched := POINT.fullmatch(name):
            before, size, value = matched.groups()
            found.setdefault(f"{before} {size}" if before else size, {})[name] = number(value)
    return {sweep: dict(sorted(points.items(), key=lambda one: one[1])) for sweep, points in found.items()}


def followed(times: Mapping[str, list[float]], seed: int) -> Iterator[tuple[str, str, float]]:
    """(sweep, metric, number) of all sweeps among the named times."""
    for sweep, points in sweeps([*times]).items():
        x, t = np.array([*points.values()], float), np.array([times[name] for name in points])
        for metric, value in slopes(x, t, seed).items():
            yield sweep, metric, value


def slopes(x: np.ndarray, t: np.ndarray, seed: int) -> dict[str, float]:
    """Sizes (P,) and times (P, rounds) to elasticity, its interval, that of the last step, and the fits."""
    middle = np.median(t, 1)
    drawn = [_elasticity(x, np.median(t[:, at], 1)) for at in again(t.shape[1], np.random.default_rng(seed))]
    low, high = np.quantile(drawn, [0.025, 0.975])
    line, slope = _fit(x, t, 1)
    parabola, _ = _fit(x, t, 2)
    return {
        "elasticity": _elasticity(x, middle),
        "low": float(low),
        "high": float(high),
        "elasticity at the end": _elasticity(x[-2:], middle[-2:]),
        "ms/unit": slope,
        "AIC, line - parabola": line - parabola,
    }


def _elasticity(x: np.ndarray, t: np.ndarray) -> float:
    return float(np.polyfit(np.log(x), np.log(t), 1)[0])


def _fit(x: np.ndarray, t: np.ndarray, degree: int) -> tuple[float, float]:
    """AIC and the linear coefficient of a polynomial through all rounds, errors in parts of the median."""
    weight = 1 / np.median(t, 1, keepdims=True)
    powers = np.stack([np.ones_like(x), *((x / x.max()) ** n for n in range(1, degree + 1))], 1)  # well conditioned
    design = (powers[:, None] * weight[..., None]).repeat(t.shape[1], 1).reshape(-1, degree + 1)
    target = (t * weight).reshape(-1)
    found, *_ = np.linalg.lstsq(design, target, rcond=None)
    left = np.square(target - design @ found).sum()
    return float(len(target) * np.log(max(left, 1e-300) / len(target)) + 2 * (degree + 2)), float(found[1] / x.max())
