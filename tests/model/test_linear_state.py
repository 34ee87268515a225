"""Recurrences in chunks say what they say token by token, at any length, and however fast a state decays."""

import itertools
from typing import Any

import pytest
import torch
from conftest import normal
from torch.utils.flop_counter import FlopCounterMode

from gptlab.model.recurrence.decayed_scores import score_decayed
from gptlab.model.recurrence.linear_state import Rewrite, count_mixing_flops, fit_chunk, mix, scan_chunks, scan_tokens

BATCH, HEADS, KEY, VALUE = 2, 3, 6, 5
RULES = ["adds", "delta", "own"]
"""A state that is added to, one that is rewritten by its keys, and one by vectors of their own."""
close = torch.testing.assert_close


def posed(rule: str, length: int, features: int, heads: int = HEADS) -> tuple[Any, Rewrite | None]:
    """q, k, v, log decays from slow to almost all at once, a state; and how it is rewritten."""
    q, k, a, b = (normal(BATCH, heads, length, KEY, key=name) for name in "qkab")
    v, state = normal(BATCH, heads, length, VALUE, key="v"), normal(BATCH, heads, KEY, VALUE, key="state")
    fast = torch.tensor([0.02, 2.0, 90.0])[torch.arange(length) % 3].view(1, 1, length, 1)
    log_decay = -normal(BATCH, heads, length, features, key="decay").abs() * fast
    if rule == "delta":
        k = torch.nn.functional.normalize(k, dim=-1)
        beta = 2 * normal(BATCH, heads, length, 1, key="beta").sigmoid()
        return (q, beta * k, v, log_decay, state), Rewrite(-k)
    return (q, k, v, log_decay, state), Rewrite(0.3 * a, 0.3 * b) if rule == "own" else None


@pytest.mark.parametrize("features", [1, KEY], ids=["by head", "by feature"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("length", [1, 2, 3, 8, 17])
def test_chunks_say_what_the_recurrence_says(rule: str, length: int, features: int):
    given, rewrite = posed(rule, length, features)
    wanted = scan_tokens(*given, rewrite=rewrite)
    for chunk in (1, 2, 4, 16, 64):
        close(scan_chunks(*given, chunk=chunk, rewrite=rewrite), wanted, msg=lambda text, c=chunk: f"chunk {c}: {text}")


@pytest.mark.parametrize("features", [1, KEY], ids=["by head", "by feature"])
@pytest.mark.parametrize("rule", RULES)
def test_both_forms_have_the_same_gradients(rule: str, features: int):
    given, rewrite = posed(rule, 11, features)
    leaves = [x.requires_grad_() for x in (*given, *(rewrite or ())) if x is not None]
    found = []
    for scan in (scan_tokens, scan_chunks):
        y, state = scan(*given, chunk=4, rewrite=rewrite)
        found.append(torch.autograd.grad(y.square().sum() + state.square().sum(), leaves))
    close(*found)


@pytest.mark.parametrize("rule", RULES)
def test_a_text_may_be_cut_anywhere(rule: str):
    (q, k, v, log_decay, state), rewrite = posed(rule, 13, KEY)
    q, k, v, log_decay = (x.transpose(1, 2) for x in (q, k, v, log_decay))
    rewrite = rewrite and rewrite.apply(lambda x: x.transpose(1, 2))
    whole, last = mix(q, k, v, log_decay, state, 4, rewrite)
    outputs = []
    for start, end in itertools.pairwise([0, 1, 6, 7, 13]):
        part = slice(start, end)
        cut = rewrite and rewrite.apply(lambda x, part=part: x[:, part])
        y, state = mix(q[:, part], k[:, part], v[:, part], log_decay[:, part], state, 4, cut)
        outputs.append(y)
    close(torch.cat(outputs, 1), whole)
    close(state, last)


def test_one_key_may_serve_all_heads():
    (q, k, v, log_decay, state), _ = posed("adds", 9, 1)
    q, k = q[:, :1], k[:, :1]
    wanted = scan_tokens(q.expand(-1, HEADS, -1, -1), k.expand(-1, HEADS, -1, -1), v, log_decay, state)
    close(scan_tokens(q, k, v, log_decay, state), wanted)
    close(scan_chunks(q, k, v, log_decay, state, 4), wanted)


@pytest.mark.parametrize("chunk", [1, 4, 64])
@pytest.mark.parametrize("features", [1, KEY], ids=["by head", "by feature"])
@pytest.mark.parametrize("rule", RULES)
def test_flops_are_the_counted_products(rule: str, features: int, chunk: int):
    def solve(system: list[int], right: list[int], **_: object) -> int:
        return torch.Size(right).numel() * system[-1]

    given, rewrite = posed(rule, 17, features)
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.linalg_solve_triangular: solve}) as counted:
        scan_chunks(*given, chunk=chunk, rewrite=rewrite)
    kind = {"rewrites": rule != "adds", "own_write": rule == "own"}
    promised = count_mixing_flops(17, chunk, KEY, VALUE, heads=HEADS, by_feature=features > 1, **kind)
    assert counted.get_total_flops() == BATCH * promised


def test_a_chunk_is_no_longer_than_the_text():
    assert [fit_chunk(length, 16) for length in (1, 2, 3, 9, 17, 64)] == [1, 2, 4, 16, 16, 16]


def test_scores_that_decay_by_feature_are_their_formula():
    q, k = normal(3, 8, 2, 5, key="q").requires_grad_(), normal(3, 8, 4, 5, key="k").requires_grad_()
    log_decay = -40 * normal(3, 8, 5).abs().cumsum(-2)
    log_decay.requires_grad_()
    later = torch.ones(8, 8, dtype=torch.bool).triu(1)[..., None]
    decay = (log_decay[:, :, None] - log_decay[:, None]).masked_fill(later, -torch.inf).exp()
    wanted = torch.einsum("bird,bjcd,bijd->brcij", q, k, decay)
    scores = score_decayed(q, k, log_decay)
    close(scores, wanted)
    weights = normal(*scores.shape, key="weights")
    leaves = (q, k, log_decay)
    close(torch.autograd.grad(scores, leaves, weights), torch.autograd.grad(wanted, leaves, weights))
