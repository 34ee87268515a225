"""What the layers of one forward pass share, and what a pass gives back. Nothing here outlives the call."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from gptlab.model.mask import Mask

if TYPE_CHECKING:
    from gptlab.model.position import Position


@dataclass
class PassMask:
    """A mask over the positions of one pass. `causal`: whole and plain, so kernels need no tensor (flash on GPUs)."""

    mask: Mask
    query_positions: Tensor
    key_positions: Tensor
    causal: bool
    cached_tensor: Tensor | None = None

    def tensor(self) -> Tensor:
        """Bool (B|1, 1, T, S), true where a query sees a key; made once."""
        if self.cached_tensor is None:
            self.cached_tensor = self.mask(self.query_positions, self.key_positions)
        return self.cached_tensor


@dataclass
class ForwardPass:
    """Made by the decoder for each pass. `plain` says that every row stands at 0..T-1, without padding."""

    tokens: Tensor
    positions: Tensor
    position: "Position"
    default_positions: bool = False
    shared: dict[str, Any] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Tensor] = field(default_factory=dict)
    pass_masks: dict[Mask, PassMask] = field(default_factory=dict)

    def pass_mask(self, mask: Mask, key_positions: Tensor | None = None) -> PassMask:
        """The mask over this pass; keys stand at `key_positions`, by default where the queries do, as in all layers."""
        if key_positions is not None and key_positions is not self.positions:
            return PassMask(mask, self.positions, key_positions, causal=False)
        if mask not in self.pass_masks:
            self.pass_masks[mask] = PassMask(
                mask,
                self.positions,
                self.positions,
                self.default_positions and mask.is_plain_causal(self.positions.shape[1]),
            )
        return self.pass_masks[mask]


class Output(NamedTuple):
    """What a pass gives: logits (B, T, vocab) without targets, the loss in nats per target token with them."""

    logits: Tensor | None
    loss: Tensor | None
    losses: dict[str, Tensor]
    facts: dict[str, Tensor]


IGNORED = -100
"""A target that is not scored."""
