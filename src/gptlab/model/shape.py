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
    """

    width: int
    heads: int
    layers: int
    context: int
    vocab: int
    head: int = 0
    tokens: int = 0

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


def divisors(number: int) -> list[int]:
    """Return all divisors of a positive number, ascending."""
    return [n for n in range(1, number + 1) if number % n == 0]
