"""Log-likelihoods of given continuations: how likely a decoder finds a text after another one, in nats.

    log p(c | prefix) = sum_i log p(c_i | prefix, c_1 .. c_i-1)

Rows are padded on the right, which no earlier token sees. A prefix that leaves no room for its continuation in the
context loses its beginning. A continuation that is longer than the context is scored in windows, each token once, as
lm-evaluation-harness's `get_rolling_token_windows` cuts a text: what a token sees ends at most one context before it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gptlab.model.decoder import Decoder
from gptlab.model.eval_mode import eval_mode

MAX_LOGITS = 2**19
"""Logits computed at once on a CPU, as in training/evaluate.py."""
GPU_FACTOR = 16
MAX_ROWS = 64
"""Rows of a batch at most: of more, those of a few tokens would hardly be quicker."""


class Continuation(NamedTuple):
    """Tokens to be scored, and those before them, of which there is one at least."""

    prefix: Sequence[int]
    tokens: Sequence[int]


class Likelihood(NamedTuple):
    """The score of a continuation.

    log_likelihood  in nats, 0 for no tokens
    is_greedy       whether every token is the likeliest where it stands
    lost            tokens of the prefix that the context had no room for
    """

    log_likelihood: float
    is_greedy: bool
    lost: int


class _Window(NamedTuple):
    """Tokens of one forward pass: inputs, and as many of the last targets as are scored; whose they are."""

    inputs: Sequence[int]
    targets: Sequence[int]
    owner: int


def score_continuations(
    decoder: Decoder, continuations: Sequence[Continuation], max_rows: int = MAX_ROWS
) -> list[Likelihood]:
    """Return the likelihood of each continuation, in order. At most `max_rows` are read at once."""
    context = decoder.shape.context
    windows: list[_Window] = []
    for owner, item in enumerate(continuations):
        windows += cut_windows(item, owner, context)
    sums, greedy = [0.0] * len(continuations), [True] * len(continuations)
    with eval_mode(decoder):
        for batch in _make_batches(decoder, windows, max_rows):
            for window, log_likelihoods, is_likeliest in _score_batch(decoder, batch):
                sums[window.owner] += log_likelihoods.sum().item()
                greedy[window.owner] &= bool(is_likeliest.all())
    likelihoods = []
    for item, log_likelihood, is_greedy in zip(continuations, sums, greedy, strict=True):
        lost = 0
        if len(item.tokens):
            # what the first window has no room for; its last token is no input
            lost = max(0, len(item.prefix) + min(len(item.tokens), context) - 1 - context)
        likelihoods.append(Likelihood(log_likelihood, is_greedy, lost))
    return likelihoods


def cut_windows(item: Continuation, owner: int, context: int) -> Iterator[_Window]:
    """Yield the windows of a continuation: at most `context` inputs each, every token a target once."""
    if not len(item.prefix):
        raise ValueError("a continuation needs a token before it; give a new line")
    whole = [*item.prefix, *item.tokens]
    for first in range(len(item.prefix), len(whole), context):
        end = min(first + context, len(whole))
        # inputs end one token before the targets do, and begin as early as the context allows
        yield _Window(whole[max(0, end - 1 - context) : end - 1], whole[first:end], owner)


def count_windows(continuations: Sequence[Continuation], context: int) -> tuple[int, int]:
    """Return the windows of forward passes that score continuations, and the tokens that these read."""
    windows = tokens = 0
    for item in continuations:
        for window in cut_windows(item, 0, context):
            windows, tokens = windows + 1, tokens + len(window.inputs)
    return windows, tokens


def _make_batches(decoder: Decoder, windows: list[_Window], max_rows: int) -> Iterator[list[_Window]]:
    """Yield windows in batches of about equal lengths, the longest first: too little memory shows at once."""
    on_cpu = decoder.embedding.weight.device.type == "cpu"
    max_logits = MAX_LOGITS * (1 if on_cpu else GPU_FACTOR)
    ordered = sorted(windows, key=lambda window: len(window.inputs), reverse=True)
    start = 0
    while start < len(ordered):
        # the first of the batch is its longest, so the batch takes no more than rows x V x this length
        rows = max(1, min(max_rows, max_logits // (decoder.shape.vocab * len(ordered[start].inputs))))
        yield ordered[start : start + rows]
        start += rows


def _score_batch(decoder: Decoder, batch: list[_Window]) -> Iterator[tuple[_Window, Tensor, Tensor]]:
    """Yield each window with its targets' log-likelihoods, float64, and whether each is the likeliest token."""
    device = decoder.embedding.weight.device
    longest = max(len(window.inputs) for window in batch)
    tokens = torch.zeros(len(batch), longest, dtype=torch.long)  # padding on the right, which nothing before it sees
    for row, window in enumerate(batch):
        tokens[row, : len(window.inputs)] = torch.tensor(window.inputs)
    logits = decoder.forward(tokens.to(device)).logits
    assert logits is not None
    for row, window in enumerate(batch):
        end, count = len(window.inputs), len(window.targets)
        scored = logits[row, end - count : end].float()  # (targets, V), each from the token before it
        target = torch.tensor(window.targets, device=device)
        log_likelihoods = scored.log_softmax(-1).gather(1, target[:, None])[:, 0].double()
        yield window, log_likelihoods, scored.argmax(-1) == target
