"""Whether a decoder is fed as its parts expect: ratios of one forward pass at birth, and what is odd among them.

    position       RMS of what the position adds / RMS of the token embeddings
    branch_most    largest RMS of what a branch adds to the stream / RMS of the stream, over all branches
    branch_least   the smallest
    loss           loss on random targets / ln V
    zeros          share of zeros among the weights that a change rounds
    growth         RMS of the weights that a change rounds / RMS before
    cosine         between a token's embedding and the last stream, under a tied head

A part whose ratio is far off is drowned by the others or drowns them: what a study then finds is said of the feed, not
of the part (docs/log.md, 2026-11-29). A ratio is odd if it is out of bounds and more than a factor of three from the
baseline's.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gptlab.model.decoder import Decoder

ROWS, LONGEST = 4, 128
"""Of the batch, and its tokens at most."""
LOUD, DEAF, SURPRISED, ROUNDED, LOST = 3.0, 0.05, 1.5, 0.5, 0.1
"""Bounds of a ratio: too loud, too quiet, of the loss, of zeros, of the cosine."""
FACTOR = 3.0
"""As far as an arm's ratio may be from the baseline's."""


def measure_birth(decoder: Decoder) -> dict[str, float]:
    """Return the ratios of a newborn decoder, without those that it has no parts for. It is left as it was."""
    random = torch.Generator().manual_seed(0)
    shape = decoder.shape
    size = ROWS, min(shape.context, LONGEST)
    tokens, targets = (torch.randint(shape.tokens, size, generator=random) for _ in range(2))
    training, streams = decoder.training, list[Tensor]()
    hook = decoder.norm.register_forward_pre_hook(lambda _, inputs: streams.append(inputs[0]))
    ratios = list[float]()
    residuals = [wire for block in decoder.layers for wire in (block.attention_residual, block.mlp_residual)]
    for residual in residuals:
        residual.write = _recorded(residual.write, ratios)
    try:
        with torch.no_grad():
            decoder.eval()
            loss = decoder(tokens, targets).loss.item()
            x = decoder.embedding(tokens)
            found = _measure_weights(decoder) | {"loss": loss / math.log(shape.tokens)}
            found["position"] = _rms(decoder.position.embed(x, torch.arange(size[1])[None]) - x) / _rms(x)
            if any(part._parameters.get("weight") is decoder.embedding.weight for part in decoder.readout.modules()):
                found["cosine"] = torch.cosine_similarity(x, streams[0], dim=-1).mean().item()
    finally:
        hook.remove()
        decoder.train(training)
        for residual in residuals:
            del residual.write
    if ratios:
        found |= {"branch_most": max(ratios), "branch_least": min(ratios)}
    return found


def describe_feed(ratios: Mapping[str, float], baseline: Mapping[str, float]) -> list[str]:
    """Return what is odd about an arm at birth and is not so in the baseline, a line each."""

    def odd(name: str, low: float, high: float) -> bool:
        value, usual = ratios.get(name), baseline.get(name)
        if value is None or low <= value <= high:
            return False
        return usual is None or usual <= 0 or not 1 / FACTOR <= value / usual <= FACTOR

    lines = []
    if odd("position", 0, LOUD):
        lines.append(f"what the position adds is {ratios['position']:.3g} x the tokens at birth")
    if odd("branch_most", 0, LOUD):
        lines.append(f"a branch is {ratios['branch_most']:.3g} x the stream that it writes into at birth")
    if odd("branch_least", DEAF, math.inf):
        lines.append(f"a branch is {ratios['branch_least']:.2g} of the stream that it writes into at birth")
    if odd("loss", 0, SURPRISED):
        lines.append(f"the loss at birth is {ratios['loss']:.3g} x that of knowing nothing")
    if odd("zeros", 0, ROUNDED):
        lines.append(f"{ratios['zeros']:.0%} of the rounded weights are 0 at birth")
    if odd("growth", 1 / LOUD, LOUD):
        lines.append(f"rounded weights are {ratios['growth']:.3g} x their size at birth")
    if odd("cosine", LOST, 1.01):
        lines.append(f"the last stream hardly knows the token (cosine {ratios['cosine']:.2f}) under a tied head")
    return lines


def _measure_weights(decoder: nn.Module) -> dict[str, float]:
    """Of the Linears whose weight a change computes from another; of none if it prunes, since its zeros are meant."""
    if hasattr(decoder, "pruning"):
        return {}
    zeros = total = 0
    before = after = 0.0
    for part in decoder.modules():
        if isinstance(part, nn.Linear) and parametrize.is_parametrized(part, "weight"):
            weight, original = part.weight, part.get_parameter("parametrizations.weight.original")
            zeros, total = zeros + int((weight == 0).sum()), total + weight.numel()
            before += original.square().sum().item()
            after += weight.square().sum().item()
    return {"zeros": zeros / total, "growth": (after / before) ** 0.5} if total else {}


def _recorded(write: Any, ratios: list[float]) -> Any:
    """A residual's `write` that notes how large a part of the stream its branch is."""

    def recorded(stream: Any, y: Tensor) -> Any:
        written, without = write(stream, y), write(stream, torch.zeros_like(y))
        if (rest := _rms(without)) > 0:
            ratios.append(_rms(written - without) / rest)
        return written

    return recorded


def _rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()
