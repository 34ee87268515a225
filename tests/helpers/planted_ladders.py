"""Ladders with planted losses: the baseline a power law of compute, an arm of another gain, seeds shared by both."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gptlab.stats.ladder.trend import Cell, LadderFit, fit_ladder

SPAN = 5.7
"""ln of the compute of the largest rung over that of the smallest: nano to mini at 20 tokens a parameter."""
FLOOR, SCALE, EXPONENT = 1.2, 1.0, 0.1
Gain = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Planted:
    """A ladder before its noise. `sd`: of a seed at the smallest and the largest rung, half of it shared by arms."""

    gain: Gain
    rungs: int = 4
    seeds: int = 3
    sd: tuple[float, float] = (0.008, 0.003)
    shared: float = 0.5
    span: float = SPAN

    @property
    def x(self) -> np.ndarray:
        """ln(compute over that of the largest rung), (rungs,)."""
        return np.linspace(-self.span, 0, self.rungs)

    def gain_at(self, x: float) -> float:
        """The true gain at x."""
        return float(self.gain(np.array([x + self.span]))[0])

    def draw(self, number: int, seed: int = 0) -> Iterator[dict[Cell, dict[int, float]]]:
        """Losses of `number` ladders, by arm and rung, then by seed."""
        generator, from_first = np.random.default_rng(seed), self.x + self.span
        base = FLOOR + SCALE * np.exp(-EXPONENT * from_first)
        means = {"base": base, "arm": base - self.gain(from_first)}
        scale = np.linspace(*self.sd, self.rungs)[:, None]
        for _ in range(number):
            common = generator.normal(size=(self.rungs, self.seeds)) * self.shared**0.5
            losses: dict[Cell, dict[int, float]] = {}
            for arm, mean in means.items():
                own = generator.normal(size=common.shape) * (1 - self.shared) ** 0.5
                values = mean[:, None] + scale * (common + own)
                losses |= {(arm, rung): dict(enumerate(values[rung].tolist())) for rung in range(self.rungs)}
            yield losses

    def fit(self, number: int, seed: int = 0) -> Iterator[LadderFit]:
        """The fits of `number` ladders."""
        for losses in self.draw(number, seed):
            fit = fit_ladder(losses, self.x)
            assert fit is not None
            yield fit


def power_law_gain(scale: float, exponent: float) -> Gain:
    """The gain of an arm that has the baseline's floor, and its own scale and exponent."""
    return lambda x: SCALE * np.exp(-EXPONENT * x) - scale * np.exp(-exponent * x)
