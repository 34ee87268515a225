"""Parametrizations: how first values, steps and multipliers follow the width and the depth of a decoder."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from torch import nn

from gptlab.model.init import Init
from gptlab.model.shape import Shape

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder

Update = Literal["sign", "gradient", "spectral"]
"""How large an optimizer's step is: alike for every weight (Adam, Lion), as the gradient is (SGD), or with singular
values that are all alike and a root mean square of the rate (Muon)."""


class StepFactors(NamedTuple):
    """Factors of an optimizer's knobs for one parameter.

    lr   of the learning rate; the weight decay is divided by it, so that a step decays by lr x decay as before
    eps  of what is added to the root of the second moment
    """

    lr: float = 1.0
    eps: float = 1.0


class Scaling:
    """What a parametrization found for one decoder. Names are those of `Decoder.trainable_parameters`."""

    def find_init_factor(self, name: str, module: nn.Module, init: Init) -> float:
        """Return the factor of a tensor that `init` has filled. Raises ValueError if the init says nothing of sizes."""
        raise NotImplementedError

    def find_step_factors(self, name: str, update: Update) -> StepFactors:
        """Return the factors of one parameter's step. Raises ValueError for a parameter that it does not know."""
        raise NotImplementedError


class Parametrization:
    """Contract of the slot: __init__(*, knobs)."""

    def rebase(self, shape: Shape) -> Shape:
        """Return the shape with the bases and factors that the parts of a decoder compute their constants from."""
        return shape

    def find_scaling(self, decoder: "Decoder", build_wider: "Callable[[], Decoder]") -> Scaling | None:
        """Return how the first values and the steps of a decoder are scaled; None leaves both as they are.

        build_wider  builds the same decoder with heads twice as wide, without memory

        Raises ValueError for parts that do not keep to the parametrization.
        """
        return None
