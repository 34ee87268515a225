"""Initial weights, keyed by name: each tensor has a generator of its own, seeded by (seed, name).

So every tensor that two variants share starts identical, whatever other parts they have.
"""

from torch import (
    Generator,
    Tensor,
    nn,
    no_grad,
    random,
)  # by name: once init=torch is loaded, gptlab.model.init.torch is that

from gptlab.model.rng import derive_seed
from gptlab.model.shape import Shape


class Init:
    """Contract of the slot: fill one Linear or Embedding weight or bias in place.

    Other parts keep their own reset_parameters, drawn under generator(seed, name).
    """

    def prepare(self, decoder: nn.Module) -> None:
        """Look at the whole decoder before any tensor is filled."""

    def __call__(self, module: nn.Module, name: str, shape: Shape, generator: Generator) -> None:
        """Fill the tensor with this full name, such as blocks.0.attention.out.weight."""
        raise NotImplementedError


@no_grad()
def initialize(decoder: nn.Module, init: Init, shape: Shape, seed: int) -> None:
    """Fill all parameters of a decoder; a tensor shared by two modules is filled once, under its first name.

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
        elif parameters and callable(reset := getattr(module, "reset_parameters", None)):
            # other parts draw from torch's global generator: seeded by their own name, and put back after
            with random.fork_rng(devices=[]):
                random.default_generator.manual_seed(derive_seed(seed, path))
                reset()
    # last, so that no init overwrites what a part wants for itself (zeros, identities)
    for module in decoder.modules():
        if callable(adjust := getattr(module, "adjust_initial_weights", None)):
            adjust()
