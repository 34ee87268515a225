"""Residuals: the formula of each written naively, and where one of them is another."""

from typing import Any

import pytest
import torch
from conftest import BATCH, SIZES, TIME, VOCAB, composed, decoder, menu, normal, perturb, recipe, tokens
from torch import Tensor

from gptlab import compose as wiring
from gptlab.config.recipe import Recipe
from gptlab.model.decoder import Decoder
from gptlab.model.norm.rmsnorm import RMSNorm
from gptlab.model.residual.mhc import ManifoldHyper, make_doubly_stochastic
from gptlab.model.shape import Shape

SHAPE = Shape(width=60, heads=6, layers=3, context=64, vocab=VOCAB)
close = torch.testing.assert_close

START_AS_PRE = [
    "x0",
    "unet residual.skip=0.0",
    "denseformer",
    "mhc",
    "layerscale residual.gain=1.0",
    "stochastic_depth",
]


@pytest.mark.parametrize("case", START_AS_PRE)
def test_residuals_that_start_as_the_pre_norm_one(case: str):
    started, pre = (wiring.build_decoder(recipe(f"residual={one}"), VOCAB).double().eval() for one in (case, "pre"))
    close(started(tokens(BATCH, TIME)).logits, pre(tokens(BATCH, TIME)).logits)


def branches(made: Decoder) -> list[tuple[Any, Any]]:
    """Each branch of a decoder without positions, in order: its residual, and a function of (B, T, width)."""
    found: list[tuple[Any, Any]] = []
    for block in made.layers:
        found.append((block.attention_residual, attended(block.attention)))
        found.append((block.mlp_residual, lambda x, mlp=block.mlp: mlp(x, None)))
    return found


def attended(attention: Any) -> Any:
    """Attention alone, without positions."""
    from test_equivalent_variants import attended as attend

    return lambda x: attend(attention, x)


def said(made: Decoder, stream: Tensor) -> Tensor:
    """Logits of the last stream."""
    return made.readout(made.norm(stream))


def posed(case: str) -> tuple[Decoder, Tensor, Tensor, list[tuple[Any, Any]]]:
    """A decoder without positions, its logits, its embeddings and its branches."""
    made, now = decoder(f"residual={case} position=nope"), tokens(BATCH, TIME)
    return made, made(now).logits, made.embedding(now), branches(made)


def norm(residual: Any, x: Tensor) -> Tensor:
    """The residual's own norm, written out."""
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * residual.norm.weight


def test_output_only_norms_what_a_branch_gives():
    made, logits, x, parts = posed("output_only")
    x = x * 60**0.5
    for residual, branch in parts:
        x = x + norm(residual, branch(x))
    close(logits, said(made, x))


@pytest.mark.parametrize("case", ["layerscale", "rezero", "ln_scaling"])
def test_scaled_branches_are_their_formulas(case: str):
    made, logits, x, parts = posed(case)
    for number, (residual, branch) in enumerate(parts):
        if case == "rezero":
            x = x + residual.gain * branch(x)
        elif case == "layerscale":
            x = x + residual.gain * branch(norm(residual, x))
        else:
            x = x + branch(norm(residual, x) / (1 + number // 2) ** 0.5)
    close(logits, said(made, x))


def test_x0_mixes_the_embedding_in_before_each_layer():
    made, logits, x, parts = posed("x0")
    x0 = x
    for number, (residual, branch) in enumerate(parts):
        if number % 2 == 0:
            x = residual.mix[0] * x + residual.mix[1] * x0
        x = x + branch(norm(residual, x))
    close(logits, said(made, x))


def test_a_unet_skips_from_each_layer_to_its_mirror():
    made, logits, x, parts = posed("unet")
    left = []
    for layer in range(3):
        if layer == 2:
            x = x + parts[4][0].skip * left[0]
        for residual, branch in parts[2 * layer : 2 * layer + 2]:
            x = x + branch(norm(residual, x))
        left.append(x)
    assert [residual.skip is not None for residual, _ in parts] == [False] * 4 + [True, False]
    close(logits, said(made, x))


def test_a_denseformer_averages_all_layers_so_far_after_each():
    made, logits, x, parts = posed("denseformer")
    outputs = [x]
    for layer in range(3):
        for residual, branch in parts[2 * layer : 2 * layer + 2]:
            x = x + branch(norm(residual, x))
        outputs.append(x)
        x = torch.einsum("l,lbtd->btd", parts[2 * layer + 1][0].average, torch.stack(outputs))
    close(logits, said(made, x))


def test_attention_residuals_attend_over_all_branches_before():
    made, logits, x, parts = posed("attention_residual")
    outputs = [x]

    def attend(query: Tensor) -> Tensor:
        v = torch.stack(outputs, 2)  # (B, T, outputs, width)
        keys = v / (v.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return torch.einsum("bto,btod->btd", (keys @ query).softmax(-1), v)

    for residual, branch in parts:
        read = x if residual.query is None else attend(residual.query)
        outputs.append(branch(norm(residual, read)))
    close(logits, said(made, attend(parts[-1][0].last_query)))


def test_manifold_hyper_connections_are_their_formula_and_keep_the_mean():
    residual = ManifoldHyper(SHAPE, 1, "mlp", RMSNorm, streams=3).double()
    perturb(residual)
    stream, y = normal(BATCH, TIME, 3, 60), normal(BATCH, TIME, 60, key="y")
    written, zero = residual.write(stream, y), residual.write(stream, torch.zeros_like(y))
    close(zero.mean(-2), stream.mean(-2))
    for b, t in ((0, 0), (1, 9)):
        h = stream[b, t]
        u = h.flatten() / (h.square().mean() + 1e-6).sqrt()
        pre = (residual.alpha[0] * residual.dynamic_pre.weight @ u + residual.pre).sigmoid()
        close(residual.read(stream)[b, t], residual.norm(pre @ h))
        dynamic = residual.dynamic_write.weight @ u
        post = 2 * (residual.alpha[1] * dynamic[:3] + residual.post).sigmoid()
        mix = make_doubly_stochastic((residual.alpha[2] * dynamic[3:] + residual.mix).view(3, 3), 20)
        close(written[b, t], mix @ h + post[:, None] * y[b, t])


def test_sinkhorn_s_matrices_are_doubly_stochastic_and_keep_ratios():
    logits = normal(5, 4, 4)
    matrix = make_doubly_stochastic(logits, 200)
    close(matrix.sum(-1), torch.ones(5, 4).double())
    close(matrix.sum(-2), torch.ones(5, 4).double())
    cross = lambda m: m[:, 0, 0] * m[:, 1, 1] / (m[:, 0, 1] * m[:, 1, 0])  # noqa: E731  what scaling rows and columns keeps
    close(cross(matrix), cross(logits.exp()))


def test_stochastic_depth_drops_whole_branches_of_a_sequence_in_training_alone():
    residual: Any = decoder("residual=stochastic_depth residual.drop=0.6").layers[1].mlp_residual
    x, y = normal(4000, 1, 60), normal(4000, 1, 60, key="y")
    close(residual.write(x, y), x + y)
    torch.manual_seed(0)
    gain = ((residual.train().write(x, y) - x) / y).squeeze(1)
    close(gain, gain[:, :1].expand(-1, 60))
    assert {round(one, 6) for one in gain[:, 0].tolist()} == {0.0, round(1 / 0.6, 6)}  # two of three layers: 0.4
    assert gain.mean().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("case", ["x0", "unet", "denseformer", "attention_residual", "mhc"])
@pytest.mark.parametrize("block", ["parallel", "input_residual", "no_mlp_residual"])
def test_every_stream_goes_through_every_block(case: str, block: str):
    made, now = decoder(f"residual={case} block={block}"), tokens(BATCH, TIME)
    other = now.clone()
    other[:, 9:] = (now[:, 9:] + 1) % VOCAB
    assert torch.equal(made(now).logits[:, :9], made(other).logits[:, :9])


def test_layers_whose_streams_carry_different_things_are_refused():
    made = composed(*SIZES).config
    kinds = {name: menu(*SIZES)["residual"][name] for name in ("pre", "x0")}
    tiled = {"_target_": "gptlab.model.decoder.pattern", "_partial_": True, "layout": [*kinds], "kinds": kinds}
    with pytest.raises(ValueError, match=r"residual: layers whose streams carry embedding, nothing else do not fit"):
        wiring.build_decoder(Recipe(made | {"residual": tiled}), VOCAB)
