"""State that the layers of one forward pass share, and its output. Nothing here outlives the call."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from gptlab.model.mask import Mask

if TYPE_CHECKING:
    from gptlab.model.position import Position


@dataclass
class PassMask:
    """A mask applied to the positions of one pass.

    causal     it is the plain causal mask, so kernels need no tensor (flash on GPUs)
    documents  numbers of the documents of queries and keys alike, (B, T); None is one document a row
    """

    mask: Mask
    query_positions: Tensor
    key_positions: Tensor
    causal: bool
    documents: Tensor | None = None
    cached_tensor: Tensor | None = None

    def tensor(self) -> Tensor:
        """Return bool (B|1, 1, T, S), true where a query sees a key; computed once."""
        if self.cached_tensor is None:
            visible = self.mask(self.query_positions, self.key_positions)
            if self.documents is not None:
                visible = visible & (self.documents[:, None, :, None] == self.documents[:, None, None, :])
            self.cached_tensor = visible
        return self.cached_tensor


class ForwardPass:
    """State of one pass, created by the decoder.

    No dataclass: FSDP (torch 2.13) looks into those among a block's arguments for tensors that learn, and hands the
    block a copy, so that what a layer leaves here would be lost to later layers and to the loss.

    default_positions  every row stands at 0..T-1, without padding
    documents          number of each token's document, (B, T); None is one document a row
    embeddings         of the tokens, (B, T, width), without positions; set by the decoder
    shared             tensors that a layer leaves for later ones, by name
    losses             auxiliary losses by name
    facts              other tensors that a part reports, by name
    """

    def __init__(
        self,
        tokens: Tensor,
        positions: Tensor,
        position: "Position",
        default_positions: bool = False,
        documents: Tensor | None = None,
    ) -> None:
        self.tokens, self.positions, self.position = tokens, positions, position
        self.default_positions, self.documents = default_positions, documents
        self.embeddings: Tensor | None = None
        self.shared: dict[str, Any] = {}
        self.losses: dict[str, Tensor] = {}
        self.facts: dict[str, Tensor] = {}
        self.pass_masks: dict[Mask, PassMask] = {}

    def pass_mask(self, mask: Mask, key_positions: Tensor | None = None) -> PassMask:
        """Return the mask over this pass.

        Keys stand at `key_positions`, by default where the queries do; that mask is shared by all layers.
        """
        # caches differ by layer in what they still hold, so their masks are not shared
        if key_positions is not None and key_positions is not self.positions:
            return PassMask(mask, self.positions, key_positions, causal=False)
        # masks are compared by value: layers of one window share one tensor
        if mask not in self.pass_masks:
            causal = self.default_positions and mask.is_plain_causal(self.positions.shape[1])
            self.pass_masks[mask] = PassMask(
                mask, self.positions, self.positions, causal=causal, documents=self.documents
            )
        return self.pass_masks[mask]


class Output(NamedTuple):
    """Output of a pass: logits (B, T, vocab) without targets, the loss in nats per target token with them."""

    logits: Tensor | None
    loss: Tensor | None
    losses: dict[str, Tensor]
    facts: dict[str, Tensor]
