"""Ladders with planted losses: the baseline a power law of compute, an arm of another gain, seeds shared by both."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from planted_runs import NOISE, OWN, judged

from gptlab.stats.ladder.trend import Cell, LadderFit, fit_ladder
from gptlab.stats.results import Findings, Run

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


def judge_ladder(gains: dict[str, list[float]], seeds: int = 3, **knobs: Any) -> Findings:
    """Findings of runs with planted gains, a list over the rungs by arm; a list may end before the ladder does."""
    sizes = ["nano", "micro", "mini", "medium"][: max(map(len, gains.values()))]
    made: list[Run] = []
    for rung, size in enumerate(sizes):
        base = FLOOR + SCALE * math.exp(-EXPONENT * 2 * rung)
        arms = {"base": 0.0, **{arm: of_rungs[rung] for arm, of_rungs in gains.items() if rung < len(of_rungs)}}
        for place, (arm, gain) in enumerate(arms.items()):
            for seed in range(seeds):
                noise = NOISE[seed] / 4 + OWN[(3 * place + 2 * seed + 5 * rung) % 7]
                values = {"val/loss": base - gain + noise, "params": 10.0**rung}
                values |= {"flops_per_token": 1e5 * math.exp(rung), "tokens": 1e6 * math.exp(rung)}
                made.append(Run(arm, seed, "finished", values, size=size))
    return judged(made, ladder=sizes, **knobs)
