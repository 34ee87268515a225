"""Contextual positions: against the formula, pair by pair."""

import torch
from conftest import BATCH, TIME, VOCAB, decoder, normal, perturb, tokens
from test_equivalent_variants import attended, heads, joined

from gptlab.model.attention.cope import ContextualPosition
from gptlab.model.shape import Shape

SHAPE = Shape(width=60, heads=6, layers=3, context=64, vocab=VOCAB)
close = torch.testing.assert_close


def test_contextual_positions_are_the_formula_pair_by_pair():
    attention, x = ContextualPosition(SHAPE, places=5).double(), normal(BATCH, TIME, 60)
    perturb(attention)
    q, k, v = (heads(part(x), 6).detach() for part in (attention.q, attention.k, attention.v))
    vectors, ys = attention.place.weight.detach(), torch.zeros_like(q)
    for h in range(6):
        for b in range(BATCH):
            for i in range(TIME):
                scores = []
                for j in range(i + 1):
                    place = sum(torch.sigmoid(q[h, b, i] @ k[h, b, n]).item() for n in range(j, i + 1))
                    place = min(place, 4.0)
                    low, part = int(place), place - int(place)
                    vector = (1 - part) * vectors[low] + part * vectors[min(low + 1, 4)]
                    scores.append(q[h, b, i] @ k[h, b, j] + q[h, b, i] @ vector)
                ys[h, b, i] = (torch.stack(scores) / 10**0.5).softmax(0) @ v[h, b, : i + 1]
    close(attended(attention, x), attention.out(joined([*ys])))


def test_places_of_no_weight_are_plain_attention():
    made, plain, now = decoder("attention=cope position=nope"), decoder("position=nope"), tokens(BATCH, TIME)
    with torch.no_grad():
        for block in made.layers:
            block.attention.place.weight.zero_()  # type: ignore[union-attr,operator]
    close(made(now).logits, plain(now).logits)


def test_a_ring_that_has_gone_round_counts_in_the_order_of_the_text():
    attention, x = ContextualPosition(SHAPE).double(), normal(1, 1, 6, 8, key="products")
    perturb(attention)
    q, visible = normal(1, 6, 1, 10, key="q"), torch.ones(1, 1, 1, 8, dtype=torch.bool)
    order = torch.tensor([5, 6, 7, 0, 1, 2, 3, 4])
    products = x.movedim(2, 1)
    said = attention.weigh_places(q, products, visible, torch.arange(8)[None])
    turned = attention.weigh_places(q, products[..., order], visible, order[None])
    close(turned, said[..., order])
