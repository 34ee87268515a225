"""The sizes that all parts of a decoder agree on."""

from dataclasses import dataclass

IGNORED = -100
"""A target that is not scored."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder.

    width    features of the residual stream
    heads    query heads of attention
    layers   number of blocks
    context  tokens of a training window
    vocab    rows of the embedding
    head     width of one attention head; 0 is width / heads (Qwen3 frees it)
    tokens   how many of the vocab rows are in use; 0 is all; the rest are never generated

    What a parametrization sets (model/parametrization/):

    base_width     width for which constants that follow the width are chosen; 0 is the width itself
    base_head      width of a head for which 1 / sqrt(head) is the scale of the scores; 0 is the head itself
    branch_factor  of what each branch adds to the stream
    """

    width: int
    heads: int
    layers: int
    context: int
    vocab: int
    head: int = 0
    tokens: int = 0
    base_width: int = 0
    base_head: int = 0
    branch_factor: float = 1.0

    def __post_init__(self) -> None:
        for name in ("width", "heads", "layers", "context", "vocab"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name}={getattr(self, name)} is not a positive number")
        if not self.head:
            if self.width % self.heads:
                suggestions = ", ".join(str(n) for n in divisors(self.width) if n <= 2 * self.heads)
                raise ValueError(
                    f"model.heads={self.heads} does not divide model.width={self.width}; try {suggestions}"
                )
            # the class is frozen; a size left at 0 is derived once, here
            object.__setattr__(self, "head", self.width // self.heads)
        if not self.tokens:
            object.__setattr__(self, "tokens", self.vocab)

    @property
    def constant_width(self) -> int:
        """The width that a constant such as sqrt(width) is computed from."""
        return self.base_width or self.width

    @property
    def readout_factor(self) -> float:
        """Factor of what the readout is given."""
        return self.constant_width / self.width

    @property
    def score_factor(self) -> float:
        """Factor of the scores beside 1 / sqrt(head): together sqrt(base_head) / head."""
        return ((self.base_head or self.head) / self.head) ** 0.5


def divisors(number: int) -> list[int]:
    """Return all divisors of a positive number, ascending."""
    return [n for n in range(1, number + 1) if number % n == 0]
