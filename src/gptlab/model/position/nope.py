"""No position at all: the causal mask alone tells order (Kazemnejad 2023, arXiv:2305.19466)."""

from gptlab.model.position import Position


class Nope(Position):
    """No positional encoding: no hook is implemented."""
