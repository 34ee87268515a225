"""What the layers of one forward pass share, and what a pass gives back. Nothing here outlives the call."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from gptlab.model.mask import Mask

if TYPE_CHECKING:
    from gptlab.model.position import Position


@dataclass
class Sight:
    """A mask over the positions of one pass. `causal`: whole and plain, so kernels need no tensor (flash on GPUs)."""

    mask: Mask
    q_at: Tensor
    k_at: Tensor
    causal: bool
    made: Tensor | None = None

    def tensor(self) -> Tensor:
        """Bool (B|1, 1, T, S), true where a query sees a key; made once."""
        if self.made is None:
            self.made = self.mask(self.q_at, self.k_at)
        return self.made


@dataclass
class Flow:
    """Made by the decoder for each pass. `plain` says that every row stands at 0..T-1, without padding."""

    tokens: Tensor
    at: Tensor
    position: "Position"
    plain: bool = False
    shared: dict[str, Any] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Tensor] = field(default_factory=dict)
    sights: dict[Mask, Sight] = field(default_factory=dict)

    def sight(self, mask: Mask, k_at: Tensor | None = None) -> Sight:
        """The mask over this pass; keys stand at `k_at`, by default where the queries do, as in all layers."""
        if k_at is not None and k_at is not self.at:
            return Sight(mask, self.at, k_at, causal=False)
        if mask not in self.sights:
            self.sights[mask] = Sight(mask, self.at, self.at, self.plain and mask.whole(self.at.shape[1]))
        return self.sights[mask]


class Output(NamedTuple):
    """What a pass gives: logits (B, T, vocab) without targets, the loss in nats per target token with them."""

    logits: Tensor | None
    loss: Tensor | None
    losses: dict[str, Tensor]
    facts: dict[str, Tensor]


IGNORED = -100
"""A target that is not scored."""
