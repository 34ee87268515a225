"""Costs of a decoder by counting: parameters, matmul FLOPs and cache bytes. The one place that counts them.

The decoder may live on the meta device. Lengths are tokens of one sequence.
"""

from typing import NamedTuple

from gptlab.model.decoder import Decoder
from gptlab.model.mlp import count_weights


class DecoderCosts(NamedTuple):
    """Counts of a decoder; the last two are for windows of the context's length.

    params                 parameters, a tied one once
    params_trainable       those that learn
    params_active          those that one token meets: all but the experts of a mixture that it does not
    flops_per_token        matmul FLOPs of training on one token
    cache_bytes_per_token  of a full key-value cache
    """

    params: int
    params_trainable: int
    params_active: int
    flops_per_token: float
    cache_bytes_per_token: float


def count_costs(decoder: Decoder) -> DecoderCosts:
    """Count what a decoder costs."""
    context = decoder.shape.context
    # read off real caches, not from a formula: windows, latents and shared layers count themselves
    cache_bytes = sum(cache.nbytes for cache in decoder.new_cache(1, context) if cache is not None)
    blocks = [*decoder.layers, *(layer.block for layer in decoder.ahead_layers)]
    params_inactive = sum(block.mlp.inactive_parameters() for block in blocks)
    params = sum(p.numel() for p in decoder.parameters())  # which gives a tied weight once
    params_trainable = sum(p.numel() for _, p in decoder.trainable_parameters())
    return DecoderCosts(
        params=params,
        params_trainable=params_trainable,
        params_active=params - params_inactive,
        flops_per_token=count_training_flops(decoder, context) / context,
        cache_bytes_per_token=cache_bytes / context,
    )


def count_forward_flops(decoder: Decoder, length: int) -> int:
    """Return the matmul FLOPs of one forward pass, as in writing.

    2 x the weights of every Linear that a token meets x tokens, and what attention takes to mix positions.
    """
    # layers may differ, in their window or in kind
    mixing = sum(block.attention.flops(length) for block in decoder.applied_layers)
    return 2 * _count_matmul_weights(decoder) * length + mixing


def count_training_flops(decoder: Decoder, length: int) -> int:
    """Return the matmul FLOPs of training on one sequence, with the layers that predict further ahead.

    A backward pass costs twice as much as a forward pass: once for the inputs of each product, and once for its
    weights, unless these do not learn.
    """
    forward = count_forward_flops(decoder, length) + count_ahead_flops(decoder, length)
    return 3 * forward - 2 * _count_matmul_weights(decoder, frozen=True) * length


def count_ahead_flops(decoder: Decoder, length: int) -> int:
    """Return the matmul FLOPs that predicting further ahead adds to a forward pass in training."""
    head = count_weights(decoder.readout)
    layers = enumerate(decoder.ahead_layers[: length - 1], start=1)
    return sum(layer.count_flops(length - depth, head) for depth, layer in layers)


def _count_matmul_weights(decoder: Decoder, frozen: bool = False) -> int:
    """Count the weights of all Linears that one token meets in writing; if `frozen`, of those that do not learn."""
    in_blocks = count_weights(decoder.blocks, frozen)
    repeated = sum(residual.repeated_weights(frozen) for residual in decoder.residuals)
    inactive = sum(block.mlp.inactive_weights(frozen) for block in decoder.layers)
    met_by_pairs = 0 if frozen else decoder.position.pair_weights()
    outside = count_weights(decoder, frozen) - count_weights(decoder.ahead, frozen) - in_blocks - met_by_pairs
    return outside + decoder.loops * (in_blocks + repeated - inactive)
