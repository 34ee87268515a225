"""What a config may say of another value, as in ${half_or_less:${model.heads}}. What is no number stays, for the check
to name."""

import os


def half_or_less(heads: int) -> int:
    """The largest divisor of heads up to half of them, 1 for one head. What is no int stays, for the check to name."""
    if not isinstance(heads, int):
        return heads
    return max((n for n in range(1, heads // 2 + 1) if heads % n == 0), default=1)


def quarter(number: int) -> int:
    """A quarter, at least 1. What is no int stays."""
    return max(1, number // 4) if isinstance(number, int) else number


def times(factor: float, number: float) -> float:
    """A product, without the last digits that floats add. What is no number stays."""
    return float(f"{factor * number:.12g}") if isinstance(number, int | float) else number


def inverse_root(number: float) -> float:
    """1 / sqrt(number). What is no positive number stays."""
    return number**-0.5 if isinstance(number, int | float) and number > 0 else number


def environment(name: str, default: str) -> str:
    """Return a variable of the environment; one that is empty is as if it were not there."""
    return os.environ.get(name) or default


RESOLVERS = (half_or_less, quarter, times, inverse_root, environment)
