"""Scale check of an untrained decoder: ratios of one forward pass, and those that are far from what the parts expect.

    position       RMS of what the position adds / RMS of the token embeddings
    branch_most    largest RMS of what a branch adds to the stream / RMS of the stream, over all branches
    branch_least   the smallest
    loss           loss on random targets / ln V
    zeros          share of zeros among the weights that a change rounds
    growth         RMS of the weights that a change rounds / RMS before
    cosine         between a token's embedding and the last stream, under a tied head

A part whose ratio is far off is drowned by the others or drowns them: what a study then finds is said of the scale of
its inputs, not of the part (docs/log.md, 2026-11-29). A ratio is odd if it is out of bounds and more than a factor of
three from the baseline's.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gptlab.model.decoder import Decoder
from gptlab.model.residual import Residual

BATCH_ROWS, MAX_LENGTH = 4, 128
"""Rows of the batch, and the most tokens in each."""
MAX_RATIO, MIN_BRANCH_RATIO, MAX_LOSS_RATIO, MAX_ZERO_SHARE, MIN_COSINE = 3.0, 0.05, 1.5, 0.5, 0.1
"""Bounds beyond which a ratio is odd: of position, branch_most and growth; of branch_least; loss; zeros; cosine."""
MAX_BASELINE_FACTOR = 3.0
"""How far an arm's ratio may be from the baseline's, as a factor."""


def measure_initial_ratios(decoder: Decoder) -> dict[str, float]:
    """Return the ratios of an untrained decoder, without those that it has no parts for. It is left as it was."""
    generator = torch.Generator().manual_seed(0)
    shape = decoder.shape
    size = BATCH_ROWS, min(shape.context, MAX_LENGTH)
    # random tokens: the check must not depend on the data, and knowing nothing then costs ln V exactly
    tokens, targets = (torch.randint(shape.tokens, size, generator=generator) for _ in range(2))
    was_training = decoder.training
    streams: list[Tensor] = []
    # what enters the last norm is the last stream, collapsed
    hook = decoder.norm.register_forward_pre_hook(lambda _, inputs: streams.append(inputs[0]))
    branch_ratios: list[float] = []
    residuals = decoder.residuals
    for residual in residuals:
        # shadows the method on this object alone; `del` below brings the one of the class back
        residual.write = _record_branch_ratio(residual, branch_ratios)
    try:
        with torch.no_grad():
            # without dropout, whose noise would count as a part's size
            decoder.eval()
            loss = decoder(tokens, targets).loss.item()
            x = decoder.embed_tokens(tokens)
            ratios = _measure_rounded_weights(decoder) | {"loss": loss / math.log(shape.tokens)}
            added = decoder.position.embed(x, torch.arange(size[1])[None]) - x
            ratios["position"] = _rms(added) / _rms(x)
            head_weights = [module._parameters.get("weight") for module in decoder.readout.modules()]
            if any(weight is decoder.embedding.weight for weight in head_weights):
                # a tied head scores by the embedding, so at birth the stream should still point to its token
                ratios["cosine"] = torch.cosine_similarity(x, streams[0], dim=-1).mean().item()
    finally:
        hook.remove()
        decoder.train(was_training)
        for residual in residuals:
            del residual.write
    if branch_ratios:
        ratios |= {"branch_most": max(branch_ratios), "branch_least": min(branch_ratios)}
    return ratios


def describe_odd_ratios(ratios: Mapping[str, float], baseline: Mapping[str, float]) -> list[str]:
    """Return a line for each ratio of an arm that is odd before training and is not so in the baseline."""

    def is_odd(name: str, low: float, high: float) -> bool:
        value, baseline_value = ratios.get(name), baseline.get(name)
        if value is None or low <= value <= high:
            return False
        return (
            baseline_value is None
            or baseline_value <= 0
            or not 1 / MAX_BASELINE_FACTOR <= value / baseline_value <= MAX_BASELINE_FACTOR
        )

    lines = []
    if is_odd("position", 0, MAX_RATIO):
        lines.append(f"what the position adds is {ratios['position']:.3g} x the tokens at birth")
    if is_odd("branch_most", 0, MAX_RATIO):
        lines.append(f"a branch is {ratios['branch_most']:.3g} x the stream that it writes into at birth")
    if is_odd("branch_least", MIN_BRANCH_RATIO, math.inf):
        lines.append(f"a branch is {ratios['branch_least']:.2g} of the stream that it writes into at birth")
    if is_odd("loss", 0, MAX_LOSS_RATIO):
        lines.append(f"the loss at birth is {ratios['loss']:.3g} x that of knowing nothing")
    if is_odd("zeros", 0, MAX_ZERO_SHARE):
        lines.append(f"{ratios['zeros']:.0%} of the rounded weights are 0 at birth")
    if is_odd("growth", 1 / MAX_RATIO, MAX_RATIO):
        lines.append(f"rounded weights are {ratios['growth']:.3g} x their size at birth")
    if is_odd("cosine", MIN_COSINE, 1.01):
        lines.append(f"the last stream hardly knows the token (cosine {ratios['cosine']:.2f}) under a tied head")
    return lines


def _measure_rounded_weights(decoder: nn.Module) -> dict[str, float]:
    """Return `zeros` and `growth` of the Linears whose weight a change computes from another.

    They are left out where it prunes, since its zeros are meant.
    """
    if hasattr(decoder, "pruning"):
        return {}
    zeros = total = 0
    before = after = 0.0
    for module in decoder.modules():
        if isinstance(module, nn.Linear) and parametrize.is_parametrized(module, "weight"):
            weight, original = module.weight, module.get_parameter("parametrizations.weight.original")
            zeros, total = zeros + int((weight == 0).sum()), total + weight.numel()
            before += original.square().sum().item()
            after += weight.square().sum().item()
    return {"zeros": zeros / total, "growth": (after / before) ** 0.5} if total else {}


def _record_branch_ratio(residual: Residual, branch_ratios: list[float]) -> Any:
    """Wrap a residual's `write` so that it appends the ratio of the branch to the stream."""
    write = residual.write

    def write_and_record(stream: Any, y: Tensor) -> Any:
        # the difference is what the branch adds, whatever norm or mixing the residual does on the way
        after = write(stream, y)
        # the same write of nothing: what the residual does by itself, as scaling the stream, is no part of the branch
        written, without = residual.measure(after), residual.measure(write(stream, torch.zeros_like(y)))
        if (stream_rms := _rms(without)) > 0:
            branch_ratios.append(_rms(written - without) / stream_rms)
        return after

    return write_and_record


def _rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()
