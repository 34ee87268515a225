"""Ladders of two sizes whose arms have planted differences at both, and seeds that blur them."""

import numpy as np

from gptlab.stats.ladder.decisions import LadderLosses, RungLosses

SEEDS = 3


def make_ladder(
    small: dict[str, list[float]], large: dict[str, list[float]], tuned: bool = False, study: str = "planted"
) -> LadderLosses:
    """A ladder of losses by arm, one a seed, at two sizes; the first arm is the baseline."""
    rungs = [
        RungLosses(
            size=size,
            flops=1e12 * place,
            losses={arm: dict(enumerate(values)) for arm, values in losses.items()},
        )
        for place, (size, losses) in enumerate({"nano": small, "micro": large}.items(), 1)
    ]
    baseline, *arms = small
    slots = {arm: arm.split("=")[0] for arm in arms}
    return LadderLosses(study=study, baseline=baseline, metric="val/loss", tuned=tuned, slots=slots, rungs=rungs)


def plant_ladder(
    truths: np.ndarray, generator: np.random.Generator, noise: float = 1.0, seeds: int = SEEDS
) -> LadderLosses:
    """A ladder of true differences from the baseline, (2, arms), in losses with noise of a seed and of each run."""
    losses = []
    for of_size in truths:
        means = np.array([0.0, *of_size])[:, None]
        luck = generator.standard_normal(seeds)
        losses.append(2 + means + luck + noise * generator.standard_normal((len(means), seeds)))
    names = ["base", *(f"mlp=a{number}" for number in range(truths.shape[1]))]
    small, large = ({name: row.tolist() for name, row in zip(names, rows, strict=True)} for rows in losses)
    return make_ladder(small, large)


def plant_truths(correlation: float, spread: float, arms: int, generator: np.random.Generator) -> np.ndarray:
    """True differences at two sizes, (2, arms): normal, of so much correlation and so large."""
    first, second = spread * generator.standard_normal((2, arms))
    return np.stack([first, correlation * first + np.sqrt(1 - correlation**2) * second])
