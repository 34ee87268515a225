"""Costs of a decoder by counting: parameters, training FLOPs and cache bytes. The one place that counts them."""

from typing import NamedTuple

from gptlab.model.decoder import Decoder


class DecoderCosts(NamedTuple):
    """Counts of a decoder; the last three are for windows of the context's length.

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
    """Count what a decoder costs; it may live on the meta device."""
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
        flops_per_token=decoder.training_flops(context) / context,
        cache_bytes_per_token=cache_bytes / context,
    )
