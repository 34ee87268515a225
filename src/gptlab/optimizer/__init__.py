"""What turns gradients into steps. A choice is called with the named parameters and gives one torch Optimizer, also
where two rules are at work. Every choice has the knob `lr`; the schedule scales it."""

from collections.abc import Iterable

from torch import nn


def matrices_and_rest(named: Iterable[tuple[str, nn.Parameter]]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters of two or more axes, which decay, and the others (norms, biases, gains), which do not."""
    trained = [p for _, p in named if p.requires_grad]
    return [p for p in trained if p.ndim >= 2], [p for p in trained if p.ndim < 2]
