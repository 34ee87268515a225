"""Initial weights, keyed by name: each tensor has a generator of its own, seeded by (seed, name).

So every tensor that two variants share starts identical, whatever other parts they have.
"""

from typing import TYPE_CHECKING, NamedTuple

from torch import (
    Generator,
    Tensor,
    nn,
    no_grad,
    random,
)  # by name: once init=torch is loaded, gptlab.model.init.torch is that

from gptlab.model.rng import derive_seed
from gptlab.model.shape import Shape

if TYPE_CHECKING:
    from gptlab.model.parametrization import Scaling


class StdPowers(NamedTuple):
    """How an init lets the standard deviation of a tensor follow the sizes, as a product of powers.

    width   of the stream
    inputs  of a Linear
    larger  the larger of a Linear's inputs and outputs
    layers  of the decoder
    """

    width: float = 0.0
    inputs: float = 0.0
    larger: float = 0.0
    layers: float = 0.0


class Init:
    """Contract of the slot: fill one Linear or Embedding weight or bias in place.

    Other parts keep their own reset_parameters, drawn under generator(seed, name).
    """

    def prepare(self, decoder: nn.Module) -> None:
        """Look at the whole decoder before any tensor is filled."""

    def __call__(self, module: nn.Module, name: str, shape: Shape, generator: Generator) -> None:
        """Fill the tensor with this full name, such as blocks.0.attention.out.weight."""
        raise NotImplementedError

    def std_powers(self, module: nn.Module, name: str) -> StdPowers | None:
        """Return how the standard deviation of this tensor follows the sizes; None if that is not known.

        A parametrization that sets first values by the sizes itself divides by these.
        """
        return None


@no_grad()
def initialize(decoder: nn.Module, init: Init, shape: Shape, seed: int, scaling: "Scaling | None" = None) -> None:
    """Fill all parameters of a decoder; a tensor shared by two modules is filled once, under its first name.

    With a `scaling`, of a parametrization, each tensor that the init fills is multiplied by its factor.
    A part that wants first values of its own for a Linear or an embedding sets them last, in `adjust_initial_weights`.
    """
    # before any tensor is filled: an init may depend on what is tied to what
    init.prepare(decoder)
    initialized: set[Tensor] = set()
    for path, module in decoder.named_modules():
        # a tied head is met second and passed over, so it starts as the embedding does
        parameters = {name: p for name, p in module.named_parameters(path, recurse=False) if p not in initialized}
        initialized.update(parameters.values())
        if isinstance(module, nn.Linear | nn.Embedding):
            for name in parameters:
                init(module, name, shape, Generator().manual_seed(derive_seed(seed, name)))
                if scaling is not None:
                    parameters[name].mul_(scaling.find_init_factor(name, module, init))
        elif parameters and callable(reset := getattr(module, "reset_parameters", None)):
            # other parts draw from torch's global generator: seeded by their own name, and put back after
            with random.fork_rng(devices=[]):
                random.default_generator.manual_seed(derive_seed(seed, path))
                reset()
    # last, so that no init overwrites what a part wants for itself (zeros, identities)
    for module in decoder.modules():
        if callable(adjust := getattr(module, "adjust_initial_weights", None)):
            adjust()
