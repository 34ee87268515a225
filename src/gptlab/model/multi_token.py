"""Layers that predict tokens beyond the next one in training (DeepSeek-V3, arXiv:2412.19437, section 2.2).

    h'_i = M [N h_i ; N Emb(t_(i+k))]        h_i of depth k - 1, of the decoder itself at k = 1
    h_i = block(h')_i                        logits of t_(i+k+1) = head(N h_i), by the decoder's own head
    trained on = loss + weight / D  sum over k = 1..D of the mean nats of depth k

Each depth sees the tokens up to the one before what it predicts, so the causal chain is kept. A pass that computes no
gradients leaves them out: losses stay comparable, and writing costs what it did. `sample --draft self` has them guess
(generation/self_draft.py). The block is what a decoder of one layer would have, so that nothing reads layers above.
Departure: depth 1 begins from what the head is given, which is normed already, as Megatron-LM's does.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from gptlab.model.attention import Attention
from gptlab.model.block import Block
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import LayerCache
from gptlab.model.mlp import Mlp, count_weights
from gptlab.model.norm import Norm
from gptlab.model.readout import Readout
from gptlab.model.residual import Residual
from gptlab.model.shape import IGNORED, Shape


class AheadLayer(nn.Module):
    """One depth of multi-token prediction."""

    def __init__(
        self,
        shape: Shape,
        *,
        block: Callable[..., Block],
        attention: Callable[..., Attention],
        mlp: Callable[..., Mlp],
        residual: Callable[..., Residual],
        norm: Callable[..., Norm],
    ) -> None:
        super().__init__()
        self.hidden_norm, self.token_norm, self.norm = (norm(shape.width, 0) for _ in range(3))
        self.join = nn.Linear(2 * shape.width, shape.width, bias=False)
        # a decoder of one layer: patterns give their last kind, and nothing is shared with layers that are not there
        one_layer = replace(shape, layers=1)
        self.block = block(one_layer, 0, attention=attention, mlp=mlp, residual=residual, norm=norm)

    def forward(
        self, x: Tensor, next_tokens: Tensor, forward_pass: ForwardPass, cache: LayerCache | None = None
    ) -> Tensor:
        """Return h (B, T, width) for that of the depth before and the embeddings of the tokens that come next."""
        # each side has a norm of its own: a hidden state and an embedding are not alike in size
        joined = self.join(torch.cat([self.hidden_norm(x), self.token_norm(next_tokens)], -1))
        stream = self.block(self.block.attention_residual.expand(joined), forward_pass, cache)
        return self.block.mlp_residual.collapse(stream)

    def count_flops(self, length: int, head_weights: int) -> int:
        """Return the matmul FLOPs of one forward pass over so many places, the head's among them."""
        residuals = (self.block.attention_residual, self.block.mlp_residual)
        weights = count_weights(self) + sum(residual.repeated_weights() for residual in residuals)
        weights += head_weights - self.block.mlp.inactive_weights()
        return 2 * weights * length + self.block.attention.flops(length)


def predict_ahead(
    x: Tensor,
    targets: Tensor,
    forward_pass: ForwardPass,
    layers: Sequence[AheadLayer],
    readout: Readout,
) -> None:
    """Add the losses of tokens beyond the next one to those of a pass.

    x        what the readout was given, (B, T, width)
    targets  (B, T)
    """
    losses: list[Tensor] = []
    length, embeddings = x.shape[1], forward_pass.embeddings
    assert embeddings is not None
    for depth, layer in enumerate(layers[: length - 1], start=1):
        # place i of this depth stands where token i does, reads token i + depth, and predicts the one after that
        places = length - depth
        documents, ahead_targets = forward_pass.documents, targets[:, depth:]
        if documents is not None:
            # a place whose token ahead is of another document mixes two; all after it in its own do too
            mixes = documents[:, depth:] != documents[:, :places]
            documents, ahead_targets = documents[:, :places], ahead_targets.masked_fill(mixes, IGNORED)
        inner = ForwardPass(
            forward_pass.tokens[:, depth:],
            forward_pass.positions[:, :places],
            forward_pass.position,
            default_positions=forward_pass.default_positions,
            documents=documents,
        )
        # each depth goes on from the one before, and sees one place less
        x = layer(x[:, :places], embeddings[:, depth:], inner)
        losses.append(readout.loss(layer.norm(x), ahead_targets, inner))
        # such as a mixture's balance, or the head's z-loss
        for name, value in inner.losses.items():
            forward_pass.losses[name] = forward_pass.losses.get(name, 0) + value
    if losses:
        forward_pass.losses["mtp"] = readout.mtp_weight * torch.stack(losses).mean()
