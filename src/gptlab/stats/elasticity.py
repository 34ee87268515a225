"""Slopes over size, of times from the points of a sweep that were timed in the same rounds, and of other numbers.

elasticity   slope of ln t over ln x, with a 95 % interval from resampled blocks of neighbouring rounds
AIC          of a line less that of a parabola, each fitted to t / median t of all rounds: above 0 the parabola wins
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from gptlab.stats.labels import SizePoint
from gptlab.stats.timing import resample_rounds


def group_into_sweeps(points: Mapping[str, SizePoint]) -> dict[str, dict[str, float]]:
    """Return the sizes by the name of their sweep, then of the point, ascending."""
    sweeps: dict[str, dict[str, float]] = {}
    for name, point in points.items():
        sweeps.setdefault(f"{point.line} {point.size}".lstrip(), {})[name] = point.value
    return {sweep: dict(sorted(sizes.items(), key=lambda item: item[1])) for sweep, sizes in sweeps.items()}


def measure_elasticities(
    times: Mapping[str, list[float]], points: Mapping[str, SizePoint], seed: int
) -> Iterator[tuple[str, str, float]]:
    """Yield (sweep, metric, value) for every sweep among the points, whose times are by name."""
    for sweep, sizes in group_into_sweeps(points).items():
        x, t = np.array([*sizes.values()], float), np.array([times[name] for name in sizes])
        for metric, value in fit_elasticity(x, t, seed).items():
            yield sweep, metric, value


def fit_elasticity(x: np.ndarray, t: np.ndarray, seed: int) -> dict[str, float]:
    """Return elasticity, its interval, that of the last step, and the fits, from sizes (P,) and times (P, rounds)."""
    # medians: a neighbour's burst makes a round slow, never fast
    medians = np.median(t, 1)
    resampled = [
        _log_log_slope(x, np.median(t[:, rounds], 1))
        for rounds in resample_rounds(t.shape[1], np.random.default_rng(seed))
    ]
    low, high = np.quantile(resampled, [0.025, 0.975])
    line, slope = _fit_polynomial(x, t, 1)
    parabola, _ = _fit_polynomial(x, t, 2)
    return {
        "elasticity": _log_log_slope(x, medians),
        "low": float(low),
        "high": float(high),
        "elasticity at the end": _log_log_slope(x[-2:], medians[-2:]),
        "ms/unit": slope,
        "AIC, line - parabola": line - parabola,
    }


def _log_log_slope(x: np.ndarray, t: np.ndarray) -> float:
    return float(np.polyfit(np.log(x), np.log(t), 1)[0])


def _fit_polynomial(x: np.ndarray, t: np.ndarray, degree: int) -> tuple[float, float]:
    """Return AIC and linear coefficient of a polynomial through all rounds, with errors relative to the median."""
    # clocks err in proportion: unweighted, the largest size would decide the fit alone
    weight = 1 / np.median(t, 1, keepdims=True)
    # in units of the largest size, which keeps the powers well conditioned, (P, degree + 1)
    powers = np.stack([np.ones_like(x), *((x / x.max()) ** n for n in range(1, degree + 1))], 1)
    # a row for each point and round: (P rounds, degree + 1)
    design = (powers[:, None] * weight[..., None]).repeat(t.shape[1], 1).reshape(-1, degree + 1)
    target = (t * weight).reshape(-1)
    coefficients, *_ = np.linalg.lstsq(design, target, rcond=None)
    squared_error = np.square(target - design @ coefficients).sum()
    # Gaussian errors: n ln(RSS / n) + 2 k, where k counts the variance too (Burnham & Anderson 2002, section 2.2)
    aic = len(target) * np.log(max(squared_error, 1e-300) / len(target)) + 2 * (degree + 2)
    return float(aic), float(coefficients[1] / x.max())


class Slope(NamedTuple):
    """A slope of ln y over ln x with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def fit_slope(values: Mapping[int, Sequence[float]]) -> Slope:
    """Fit a line to ln y over ln x, for draws of y by size x; what sizes leave beside the line widens the interval."""
    x = np.log([size for size, draws in values.items() for _ in draws])
    # 0 where nothing moved at all; a floor far below float32's digits keeps the logarithm finite
    y = np.log(np.maximum([value for draws in values.values() for value in draws], 1e-30))
    slope, intercept = np.polyfit(x, y, 1)
    spread = np.square(y - slope * x - intercept).sum() / (len(x) - 2) / np.square(x - x.mean()).sum()
    reach = stats.t.ppf(0.975, len(x) - 2) * spread**0.5
    return Slope(float(slope), float(slope - reach), float(slope + reach))


def judge_slope(slope: Slope, tolerance: float) -> Literal["stands", "grows", "shrinks", "not resolved"]:
    """Return whether a number stands still over size: its slope within the tolerance, beyond, or neither for sure."""
    if slope.low > tolerance:
        return "grows"
    if slope.high < -tolerance:
        return "shrinks"
    return "stands" if -tolerance <= slope.low and slope.high <= tolerance else "not resolved"
