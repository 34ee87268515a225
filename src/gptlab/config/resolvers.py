"""OmegaConf resolvers, as in ${half_or_less:${model.heads}}. Non-numbers are returned unchanged.

The type check reports them.
"""

import os

from gptlab.config.menu import ABLATE, TRAIN


def half_or_less(heads: int) -> int:
    """Return the largest divisor of heads up to half of them, 1 for one head."""
    if not isinstance(heads, int):
        return heads
    return max((n for n in range(1, heads // 2 + 1) if heads % n == 0), default=1)


def quarter(number: int) -> int:
    """Return a quarter, at least 2, for a window of 1 sees nothing but the query itself."""
    return max(2, number // 4) if isinstance(number, int) else number


def times(factor: float, number: float) -> float:
    """Return a product, without the last digits that floats add."""
    # 0.1 * 3 would be 0.30000000000000004 in names, YAMLs and hashes
    return float(f"{factor * number:.12g}") if isinstance(number, int | float) else number


def inverse_root(number: float) -> float:
    """Return 1 / sqrt(number)."""
    return number**-0.5 if isinstance(number, int | float) and number > 0 else number


def environment(name: str, default: str) -> str:
    """Return a variable of the environment; one that is empty is as if it were not there."""
    return os.environ.get(name) or default


def command(name: str) -> str:
    """Return how one says train.py or ablate.py here."""
    return {"train": TRAIN, "ablate": ABLATE}[name]


RESOLVERS = (half_or_less, quarter, times, inverse_root, environment, command)
