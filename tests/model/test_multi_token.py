"""Multi-token prediction: what training adds, and that nothing else notices."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import BATCH, TIME, VOCAB, choices, decoder, recipe, tokens

from gptlab import compose as wiring
from gptlab.model.costs import count_ahead_flops, count_costs, count_forward_flops, count_training_flops
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.shape import IGNORED
from gptlab.training.optimizer import is_hidden_matrix

close = torch.testing.assert_close


def test_each_depth_is_the_paper_s_equations():
    made, now, targets = decoder("readout=mtp readout.mtp=2"), tokens(2, 7), tokens(2, 7, key="targets")
    entered: list[torch.Tensor] = []
    made.readout.head.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))  # type: ignore[union-attr]
    said = made(now, targets)
    h, losses = entered[0], []
    for k, layer in enumerate(made.ahead_layers, start=1):
        rows = []
        for row in range(2):
            pairs = [torch.cat([layer.hidden_norm(h[row, i]), layer.token_norm(made.embedding.weight[now[row, i + k]])])
                     for i in range(7 - k)]  # fmt: skip
            x, at = (torch.stack(pairs) @ layer.join.weight.T)[None], torch.arange(7 - k)[None]
            rows.append(layer.block(x, ForwardPass(now[row : row + 1, k:], at, made.position, default_positions=True)))
        h = torch.cat(rows)
        logits = layer.norm(h) @ made.embedding.weight.T
        losses.append(torch.stack([F.cross_entropy(logits[:, i].double(), targets[:, i + k]) for i in range(7 - k)]))
    close(said.losses["mtp"], 0.3 * (losses[0].mean() + losses[1].mean()) / 2)


@pytest.mark.parametrize("asked", [0, 3, 9])
def test_what_is_predicted_further_ahead_knows_no_later_token(asked: int):
    made, now = decoder("readout=mtp readout.mtp=2"), tokens(1, TIME)
    targets = torch.full_like(now, IGNORED)
    targets[0, asked + 2 :] = tokens(1, TIME, key="targets")[0, asked + 2 :]
    targets[0, asked + 3 :] = IGNORED
    later, own = now.clone(), now.clone()
    later[0, asked + 3 :] = (now[0, asked + 3 :] + 1) % VOCAB
    own[0, asked + 2] = (now[0, asked + 2] + 1) % VOCAB
    said = made(now, targets).losses["mtp"]
    assert said.isfinite()
    close(made(later, targets).losses["mtp"], said, rtol=0, atol=0)
    assert not torch.isclose(made(own, targets).losses["mtp"], said)


def test_an_evaluation_leaves_out_what_training_adds():
    made, plain = decoder("readout=mtp"), decoder()
    now, targets = tokens(BATCH, TIME), tokens(BATCH, TIME, key="targets")
    with torch.no_grad():
        said, wanted = made(now, targets), plain(now, targets)
    assert not said.losses
    assert torch.equal(said.loss, wanted.loss)
    assert torch.equal(made(now, targets).loss.detach(), wanted.loss)
    assert count_forward_flops(made, TIME) == count_forward_flops(plain, TIME)
    assert made.new_cache(1, TIME)[0].nbytes == plain.new_cache(1, TIME)[0].nbytes  # type: ignore[union-attr]


def test_parameters_and_training_flops_are_counted_with_the_layers_ahead():
    made, plain = (wiring.build_decoder(recipe(case), VOCAB) for case in ("readout=mtp", ""))
    ahead = sum(p.numel() for p in made.ahead.parameters())
    block = sum(p.numel() for p in plain.layers[0].parameters())
    assert ahead == block + 2 * 60 * 60 + 3 * 60
    assert count_costs(made).params == count_costs(plain).params + ahead
    assert count_training_flops(made, TIME) - count_training_flops(plain, TIME) == 3 * count_ahead_flops(made, TIME)
    hidden = [name for name, p in made.named_parameters() if is_hidden_matrix(name, p)]
    assert {"ahead.0.join.weight", "ahead.0.block.mlp.out.weight"} <= {*hidden}


def test_one_token_has_none_further_ahead():
    made = decoder("readout=mtp")
    assert not made(tokens(BATCH, 1), tokens(BATCH, 1)).losses


ATTENTIONS = ("hybrid", "shared", "local_global", "rwkv7", "mha attention.value_residual=true", "value_embeddings")


@pytest.mark.parametrize("case", [*(f"residual={one}" for one in choices("residual")),
                                  *(f"attention={one}" for one in ATTENTIONS), "mlp=moe"])  # fmt: skip
def test_a_layer_ahead_is_of_the_parts_of_the_decoder(case: str):
    made = decoder(f"readout=mtp {case}")
    said: Any = made(tokens(BATCH, TIME), tokens(BATCH, TIME, key="targets"))
    torch.stack([*said.losses.values()]).sum().backward()
    assert all(p.grad.isfinite().all() for p in made.ahead.parameters() if p.grad is not None)
    assert made.ahead_layers[0].join.weight.grad.abs().max() > 0  # type: ignore[union-attr]


@pytest.mark.parametrize(("knob", "problem"), [("mtp=64", "mtp=64 is not in 0 .. 63"), ("mtp=-1", "mtp=-1"),
                                               ("mtp_weight=-1.0", "mtp_weight=-1.0 is negative")])  # fmt: skip
def test_predictions_that_no_context_holds_are_refused(knob: str, problem: str):
    with pytest.raises(ValueError, match=problem):
        wiring.build_decoder(recipe(f"readout=mtp readout.{knob}"), VOCAB)
