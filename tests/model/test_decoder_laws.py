"""The laws of every decoder: for each YAML of each part, the others at default, and for all pairs of
attention and position. A new YAML is tested by existing. Law 5 is in test_structure.py, law 6 in test_equalities.py."""

import io
import itertools
import math
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import BATCH, CASES, EVERY, PAIRS, SIZES, TIME, VOCAB, attentions, decoder, menu, recipe, tokens
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from gptlab import compose as wiring
from gptlab.config.recipe import Recipe
from gptlab.corpus.corpus import Corpus
from gptlab.corpus.tokenizer.byte import Byte
from gptlab.model.attention import Attention
from gptlab.model.attention.cope import ContextualPosition
from gptlab.model.attention.softmax import SoftmaxAttention
from gptlab.model.attention_kernels import force_kernel
from gptlab.model.block import Block
from gptlab.model.block.no_mlp_residual import NoMlpResidual
from gptlab.model.costs import count_ahead_flops, count_forward_flops
from gptlab.model.decoder import Decoder
from gptlab.model.kv_cache import RecurrentState
from gptlab.model.mask import Mask
from gptlab.model.mlp.mixture import MixtureMlp
from gptlab.model.residual.hyper import Hyper
from gptlab.model.residual.mhc import ManifoldHyper

LONG = 40
"""Tokens that go round the ring of the default window (16 keys) more than twice."""


def logits(made: Decoder, *args: Any, **more: Any) -> Tensor:
    """What a pass without targets says."""
    with torch.no_grad():
        said = made(*args, **more).logits
    assert said is not None
    return said


# -- 1


@pytest.mark.parametrize("case", EVERY)
def test_later_tokens_leave_earlier_logits_bit_equal(case: str):
    made, now = decoder(case), tokens(BATCH, TIME)
    other = now.clone()
    other[:, 9:] = (now[:, 9:] + 1) % VOCAB
    said, changed = logits(made, now), logits(made, other)
    if any(isinstance(block.mlp, MixtureMlp) for block in made.layers):
        # all tokens of one expert share a product, whose last bits may depend on how many they are
        torch.testing.assert_close(said[:, :9], changed[:, :9], rtol=0, atol=1e-12)
    else:
        assert torch.equal(said[:, :9], changed[:, :9])
    assert not torch.isclose(said[:, 9:], changed[:, 9:]).all(-1).any()  # and all later ones do see the change


@pytest.mark.parametrize("case", CASES)
def test_a_row_does_not_know_its_neighbours(case: str):
    made, now = decoder(case), tokens(BATCH, TIME)
    torch.testing.assert_close(logits(made, now)[1:], logits(made, now[1:]))


# -- 2

CHUNKS = [[1] * 22, [9, 4, 7, *[1] * 20], [17, 23], [1, 20, 1, 1, 17], [LONG]]


def in_chunks(made: Decoder, now: Tensor, positions: Tensor, chunks: list[int]) -> Tensor:
    """The logits of tokens (B, T) at (B|1, T), read chunk after chunk with a cache."""
    cache, said = made.new_cache(len(now), LONG), []
    for end, length in zip(itertools.accumulate(chunks), chunks, strict=True):
        part = slice(end - length, end)
        said.append(logits(made, now[:, part], positions=positions[:, part], cache=cache))
    return torch.cat(said, 1)


@pytest.mark.parametrize("case", EVERY)
def test_cache_says_what_the_whole_says(case: str):
    made, now = decoder(case), tokens(BATCH, LONG)
    whole = logits(made, now)
    for chunks in CHUNKS:
        said = in_chunks(made, now, torch.arange(LONG)[None], chunks)
        torch.testing.assert_close(said, whole[:, : sum(chunks)], msg=lambda text, c=chunks: f"chunks {c}: {text}")
    cache = made.new_cache(BATCH, LONG)
    torch.testing.assert_close(logits(made, now[:, :20], cache=cache), whole[:, :20])  # a prompt may leave `at` out
    torch.testing.assert_close(
        logits(made, now[:, 20:], positions=torch.arange(20, LONG)[None], cache=cache), whole[:, 20:]
    )


def padded(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Random tokens and positions of rows of these lengths, padded on the left."""
    positions = torch.stack([torch.arange(max(lengths)) - (max(lengths) - length) for length in lengths])
    return tokens(len(lengths), max(lengths)), positions.clamp(min=-1)


@pytest.mark.parametrize("case", EVERY)
def test_padding_on_the_left_changes_nothing(case: str):
    made = decoder(case)
    now, positions = padded([LONG, 23, 1])
    said = logits(made, now, positions=positions)
    assert said.isfinite().all()
    for row in range(len(now)):
        seen = positions[row] >= 0
        torch.testing.assert_close(said[row, seen], logits(made, now[row, seen][None])[0])


@pytest.mark.parametrize("chunks", [[12, 9, *[1] * 19], [1, 20, 1, 18]], ids=str)
@pytest.mark.parametrize("case", PAIRS)
def test_cache_of_padded_rows_says_what_each_row_alone_says(case: str, chunks: list[int]):
    made = decoder(case)
    now, positions = padded([LONG, 25, 31])
    for row, words in enumerate(in_chunks(made, now, positions, chunks)):
        seen = positions[row] >= 0
        torch.testing.assert_close(words[seen], logits(made, now[row, seen][None])[0])


# -- 3


def forgetful(attention: Attention) -> bool:
    """True if its weights are a softmax of nothing but q k."""
    if isinstance(attention, SoftmaxAttention):
        normed = isinstance(attention.q_norm, nn.RMSNorm)
        return attention.sink is None and attention.softcap is None and not normed
    return not recurrent(attention) and not isinstance(attention, ContextualPosition)


def recurrent(attention: Attention) -> bool:
    """True if it remembers a state and no keys."""
    return isinstance(attention.new_cache(1, 1, torch.empty(0)), RecurrentState)


ZERO: list[tuple[Callable[[Decoder, Block], bool], str, str]] = [
    (
        lambda made, block: "rotate" not in made.position.provides and forgetful(block.attention),
        "attention.k.bias",
        "softmax forgets what all keys share: q b",
    ),
    (
        lambda made, block: isinstance(block, NoMlpResidual) and isinstance(block.mlp_residual, Hyper),
        "mlp_residual.mix",
        "the MLP writes onto an empty stream",
    ),
    (
        lambda made, block: isinstance(block, NoMlpResidual) and isinstance(block.mlp_residual, Hyper),
        "mlp_residual.dynamic_write.weight",
        "and reads from it how to write",
    ),
    (
        lambda made, block: isinstance(block, NoMlpResidual) and isinstance(block.mlp_residual, Hyper),
        "mlp_residual.beta",
        "tanh 0 is 0, whatever it is multiplied by",
    ),
    (
        lambda made, block: isinstance(block.mlp_residual, ManifoldHyper) and block is made.layers[-1],
        "mlp_residual.mix",
        "mixing keeps the mean of the streams, which is what leaves",
    ),
]
"""Gradients that are zero by algebra: in which blocks, of which parameters, and why."""


@pytest.mark.parametrize("case", EVERY)
def test_every_parameter_learns(case: str):
    made = decoder(case)
    output = made(tokens(BATCH, TIME), tokens(BATCH, TIME, key="targets"))
    (output.loss + sum(output.losses.values())).backward()
    unused = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not unused
    without_gradient = {
        name for name, p in made.named_parameters() if p.grad is not None and p.grad.abs().max() < 1e-12
    }
    blocks = list(enumerate(made.layers))
    zero = {f"blocks.{layer}.{name}" for layer, block in blocks for holds, name, _ in ZERO if holds(made, block)}
    assert without_gradient == zero & dict(made.named_parameters()).keys()


# -- 4


@pytest.mark.parametrize("case", CASES)
def test_promised_flops_are_the_counted_matmuls(case: str):
    made = decoder(case)
    ahead = [(layer.block.attention, TIME - depth) for depth, layer in enumerate(made.ahead_layers, start=1)]
    mixers = [*((block.attention, TIME) for block in made.applied_layers), *ahead]
    unseen = sum((n**2 - a.pairs(n)) * a.pair_flops() for a, n in mixers if not recurrent(a))
    solves = {torch.ops.aten.linalg_solve_triangular: count_solve}
    with force_kernel("naive"), FlopCounterMode(display=False, custom_mapping=solves) as counted:
        made(tokens(BATCH, TIME), tokens(BATCH, TIME))
    of_batch = 2 * made.position.pair_weights() * TIME**2 * made.loops
    assert counted.get_total_flops() == of_batch + BATCH * (
        count_forward_flops(made, TIME) + count_ahead_flops(made, TIME) + unseen
    )  # hidden pairs are not promised


def count_solve(system: list[int], right: list[int], **_: Any) -> int:
    """FLOPs of a triangular system, which torch's counter leaves out."""
    return torch.Size(right).numel() * system[-1]


@pytest.mark.parametrize("length", [1, 4, 5, 6, TIME])
@pytest.mark.parametrize("reach", [None, 1, 5, 99])
def test_pairs_are_what_the_mask_shows(reach: int | None, length: int):
    positions = torch.arange(length)[None]
    assert Mask(reach).pairs(length) == Mask(reach)(positions, positions).sum()
    assert Mask(reach).is_plain_causal(length) == torch.equal(
        Mask(reach)(positions, positions), Mask()(positions, positions)
    )


@pytest.mark.parametrize(
    ("attention", "numbers"),
    [
        ("mha", [LONG * 2 * 6 * 10] * 3),
        ("gqa", [LONG * 2 * 3 * 10] * 3),
        ("mqa", [LONG * 2 * 1 * 10] * 3),
        ("swa", [16 * 2 * 6 * 10] * 3),
        ("shared", [LONG * 2 * 6 * 10, None, LONG * 2 * 6 * 10]),
        ("mla", [LONG * (30 + 4)] * 3),
        ("differential", [LONG * 2 * 6 * 10] * 3),
        ("linear", [6 * 10 * 10] * 3),
        ("retention", [6 * 10 * 20] * 3),
        ("gla", [6 * 5 * 10] * 3),
        ("mamba2", [12 * 128 * 10 + 3 * (2 * 128 + 120)] * 3),
        ("gated_deltanet", [6 * 10 * 10 + 3 * 180] * 3),
        ("kda", [6 * 10 * 10 + 3 * 180] * 3),
        ("rwkv7", [6 * 10 * 10 + 60] * 3),
        ("cope", [LONG * 2 * 6 * 10] * 3),
        ("forgetting", [LONG * (2 * 6 * 10 + 6)] * 3),
        ("hybrid", [6 * 10 * 10] * 3 + [LONG * 2 * 6 * 10]),
    ],
)
def test_cache_bytes_are_of_what_must_be_remembered(attention: str, numbers: list[int | None]):
    held = [cache and cache.nbytes for cache in decoder(f"attention={attention}").new_cache(BATCH, LONG)]
    assert held == [one and BATCH * 8 * one for one in numbers]


def test_a_state_is_as_large_after_any_length():
    made = decoder("attention=linear")
    assert [cache.nbytes for cache in made.new_cache(1, 7) if cache] == [
        cache.nbytes for cache in made.new_cache(1, 64) if cache
    ]


# -- 7

WIDE = ("model=micro",)
LOUD = ("residual=sandwich", "residual=output_only", "experiment=sprint")
"""Their embeddings enter with RMS 1, since a norm gives their branches that."""


def newborn(case: str, sizes: tuple[str, ...] = SIZES) -> Recipe:
    """A case as laws of the start speak of it: by the default init, with rows for the tokens alone."""
    return recipe(case, sizes, init=menu(*sizes)["init"]["width_scaled"], vocab_multiple=1)


def birth(case: str, vocab: int, sizes: tuple[str, ...] = SIZES) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the tokens just read by a newborn decoder, half the variance of all logits, and their loss on random
    targets."""
    made = wiring.build_decoder(newborn(case, sizes), vocab)
    now, targets = (tokens(4, 64, key=key, below=vocab) for key in ("tokens", "targets"))
    with torch.no_grad():
        logits = made(now).logits
        own = logits.gather(-1, now[..., None])
        rest = logits.scatter(-1, now[..., None], 0.0)
        return own, rest.square().mean() / 2, made(now, targets).loss


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith(("init=", *LOUD))])
def test_loss_at_birth_is_that_of_knowing_nothing(case: str):
    untied = "" if case.startswith("readout=") else " readout=untied"
    own, spread, loss = birth(f"{case}{untied}", VOCAB)
    if case.startswith("readout=") and "untied" not in case:
        loss = loss - spread - (torch.log1p(own.expm1() / VOCAB) - own / VOCAB).mean()
    assert loss.item() == pytest.approx(math.log(VOCAB), rel=0.02)


@pytest.mark.few(20)
@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith(("init=", "readout="))])
def test_loss_at_birth_is_that_of_knowing_nothing_at_the_default_size(case: str):
    assert birth(f"{case} readout=untied", 65, WIDE)[2].item() == pytest.approx(math.log(65), rel=0.02)


@pytest.mark.parametrize("vocab", [65, 1009])
@pytest.mark.parametrize("size", [SIZES, WIDE, ("model=nano",)])
def test_a_tied_head_starts_by_copying_and_with_logits_of_a_size(vocab: int, size: tuple[str, ...]):
    # The token just read has a logit of about 2, the others a std of 0.55: together 5 % of ln 65 at most. No error.
    own, spread, loss = birth("readout=tied", vocab, size)
    copying = torch.log1p(own.expm1() / vocab) - own / vocab
    assert (loss - copying.mean() - spread).item() == pytest.approx(math.log(vocab), rel=0.01)
    assert loss.item() == pytest.approx(math.log(vocab), rel=0.06)


@pytest.mark.parametrize("case", LOUD)
@pytest.mark.parametrize("size", [SIZES, WIDE, ("model=nano",)])
def test_sandwiched_embeddings_enter_with_size_one_and_so_do_logits(size: tuple[str, ...], case: str):
    made = wiring.build_decoder(newborn(case, size), 1009)
    now, residual = tokens(4, 64, below=1009), made.layers[0].attention_residual
    with torch.no_grad():
        assert residual.expand(made.embedding(now)).square().mean().sqrt().item() == pytest.approx(1, rel=0.03)
        assert made(now).logits.std().item() == pytest.approx(1, rel=0.1)


def test_sandwiched_embeddings_may_enter_as_they_were_drawn():
    plain, made = (
        wiring.build_decoder(newborn(f"residual={case}"), VOCAB)
        for case in ("pre", "sandwich residual.unit_embeddings=false")
    )
    assert torch.equal(made.embedding.weight, plain.embedding.weight)
    now = tokens(2, 9)
    assert torch.equal(made.layers[0].attention_residual.expand(made.embedding(now)), made.embedding(now))


@pytest.mark.parametrize("size", [SIZES, WIDE, ("model=nano",)])
def test_waves_of_position_are_as_large_as_embeddings(size: tuple[str, ...]):
    made = wiring.build_decoder(newborn("position=sinusoidal", size), 1009)
    x, at = made.embedding(tokens(4, 64, below=1009)), torch.arange(64)[None]
    waves = made.position.embed(x, at) - x
    assert (waves.square().mean() / x.square().mean()).sqrt().item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("case", ["init=torch", "init=torch readout=untied", "init=torch init.embedding_std=0.5"])
def test_a_torch_start_has_small_embeddings_where_they_are_the_head_s_weights(case: str):
    made = wiring.build_decoder(recipe(case, ("model=nano",)), 1009)
    wanted = {"init=torch": 0.02, "init=torch readout=untied": 1}.get(case, 0.5)
    assert made.embedding.weight.std().item() == pytest.approx(wanted, rel=0.02)
    if wanted == 0.02:
        loss = made(tokens(4, 64, below=1009), tokens(4, 64, key="targets", below=1009)).loss
        assert loss.item() == pytest.approx(math.log(1009), rel=0.02)


@pytest.mark.parametrize(("width", "std"), [(64, 0.02 * 12**0.5), (192, 0.04), (768, 0.02)])
def test_a_width_scaled_start_knows_the_width_but_for_the_head(width: int, std: float):
    sizes = (f"model.width={width}", "model.heads=4", "model.layers=2", "model.context=64", "bias=true")
    made = wiring.build_decoder(recipe("readout=untied mlp=moe position=learned", sizes), 65)
    for name, p in made.named_parameters():
        if name.endswith(".bias"):
            assert not p.any(), name
        elif p.ndim == 2 and len(p) > 4:  # the router has few rows
            wanted = 0.02 if "readout" in name else std / 2 if name.endswith(".out.weight") else std
            assert p.std().item() == pytest.approx(wanted, rel=0.05), name


def test_at_the_width_of_gpt2_a_width_scaled_start_is_gpt2_s():
    sizes = ("model.width=768", "model.heads=12", "model.layers=1", "model.context=8")
    scaled, gpt2 = (wiring.build_decoder(recipe(f"init={case}", sizes), 65) for case in ("width_scaled", "gpt2"))
    for (name, p), q in zip(scaled.named_parameters(), gpt2.parameters(), strict=True):
        torch.testing.assert_close(p, q, msg=name)


@pytest.mark.parametrize("experiment", ["gpt2", "nanogpt_shakespeare", "nanogpt_shakespeare_cpu"])
def test_recipes_of_gpt2_and_nanogpt_keep_their_start(experiment: str):
    init = recipe(f"experiment={experiment}").config["init"]
    assert (init["_target_"].rpartition(".")[2], init["std"]) == ("GPT2", 0.02)


# -- 8


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("init=")])
def test_variants_start_from_the_same_shared_tensors(case: str):
    variant = newborn(case)
    default = Recipe(recipe().config | {"model": variant.config["model"]})
    usual, other = (dict(wiring.build_decoder(one, VOCAB).named_parameters()) for one in (default, variant))
    shared = [name for name in usual if name in other and usual[name].shape == other[name].shape]
    assert "embedding.weight" in shared
    assert len(shared) >= len(usual) / 2
    for name in shared:
        if case in LOUD and name == "embedding.weight":  # scaled, as Gemma's
            torch.testing.assert_close(usual[name] / usual[name].std(), other[name] / other[name].std())
        else:
            assert torch.equal(usual[name], other[name]), name


RAMPS = {f"attention.{name}" for name in ("shift", "decay", "rate", "blend", "key_scale")}
"""First values that are functions of the feature and know no seed (rwkv7)."""


@pytest.mark.parametrize("case", CASES)
def test_another_seed_is_another_start_and_leaves_torch_alone(case: str):
    before = torch.get_rng_state()
    first, again, other = (
        dict(wiring.build_decoder(recipe(case, seed=n), VOCAB).named_parameters()) for n in (0, 0, 1)
    )
    assert torch.equal(before, torch.get_rng_state())
    for name, p in first.items():
        assert torch.equal(p, again[name])
        # constants and whole numbers know no seed
        seedless = len(p.unique()) == 1 or p.round().equal(p) or ".".join(name.split(".")[2:]) in RAMPS
        assert torch.equal(p, other[name]) == seedless, name


@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize(("accumulate", "size"), [(1, 1), (2, 1), (3, 1), (1, 2), (3, 2), (1, 3)])
def test_batch_k_depends_on_seed_and_step_alone(accumulate: int, size: int, start: int):
    from gptlab.corpus.datamodule import DataModule

    corpus = Corpus(np.arange(999, dtype=np.uint16), np.arange(99), Byte(), "")
    feed = DataModule(corpus, seed=3, batch_size=6, context=TIME, accumulate=accumulate)
    parts = []
    for rank in range(size):  # processes
        feed.trainer = SimpleNamespace(global_step=start, global_rank=rank, world_size=size)  # type: ignore[assignment]
        micro = list(itertools.islice(feed, 4 * accumulate))
        assert {len(part.inputs) for part in micro} == {6 // accumulate // size}
        assert {part.weight for part in micro} == {1.0}
        rows = [torch.cat([part.inputs, part.targets[:, -1:]], 1) for part in micro]
        parts.append(torch.cat(rows).unflatten(0, (4, -1)))
    wanted = np.concatenate([corpus.batch(3, step, 6, TIME) for step in range(start, start + 4)])
    assert np.array_equal(torch.cat(parts, 1).flatten(0, 1).numpy(), wanted)
    assert not np.array_equal(corpus.batch(4, 0, 6, TIME), corpus.batch(3, 0, 6, TIME))


# -- 9


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_gives_the_decoder_back(case: str):
    made, file, now = decoder(case), io.BytesIO(), tokens(BATCH, TIME)
    torch.save(made.state_dict(), file)
    file.seek(0)
    fresh = wiring.build_decoder(recipe(case, seed=1), VOCAB).double().eval()
    assert not torch.allclose(logits(fresh, now), logits(made, now))
    fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(logits(fresh, now), logits(made, now))


# -- 10


def shallow(case: str) -> tuple[str, ...]:
    """Sizes that compile quickly: one layer for what knows of one, else two; patterns take as many as they need."""
    alone = case.startswith(("mlp=", "norm=", "position=", "readout=", "embedding=", "attention="))
    alone = alone and not any(word in case for word in ("shared", "value", "loops"))
    return (*SIZES, f"model.layers={1 if alone else 2}")


def mark_experiments(cases: list[str]) -> list[Any]:
    """Experiments are slow: their parts are compiled one by one."""
    return [pytest.param(case, marks=pytest.mark.slow) if case.startswith("experiment=") else case for case in cases]


@pytest.mark.thorough
@pytest.mark.few(10)
@pytest.mark.parametrize("case", mark_experiments([case for case in CASES if not case.startswith("init=")]))
def test_one_graph_says_the_same(case: str):
    made, now, targets = decoder(case, shallow(case)), tokens(BATCH, TIME), tokens(BATCH, TIME, key="targets")
    said, plain = compiled(made, "eager")(now, targets), made(now, targets)
    torch.testing.assert_close(said.loss, plain.loss)
    torch.testing.assert_close((said.losses, said.facts), (plain.losses, plain.facts))


@pytest.mark.thorough
@pytest.mark.few(6)
@pytest.mark.parametrize("case", [case for case in CASES if case.startswith(("attention=", "position=", "embedding="))])
def test_all_cached_steps_are_one_graph(case: str):
    made, now, graphs = decoder(case, shallow(case)), tokens(BATCH, LONG), []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    cache = made.new_cache(BATCH, LONG)
    logits(made, now[:, :9], positions=torch.arange(9)[None], cache=cache)
    step = compiled(made, count)
    said = [logits(step, now[:, t : t + 1], positions=torch.tensor([[t]]), cache=cache) for t in range(9, LONG)]
    torch.testing.assert_close(torch.cat(said, 1), logits(made, now)[:, 9:])
    assert len(graphs) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # importing inductor uses torch.jit (torch 2.13)
@pytest.mark.filterwarnings("ignore:.*_prims_common.check.*:FutureWarning")  # its own lowering of a diagonal does
@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("init=")])
def test_inductor_says_the_same(case: str):
    made, now, targets = decoder(case, shallow(case)), tokens(BATCH, TIME), tokens(BATCH, TIME, key="targets")
    said, plain = compiled(made, "inductor")(now, targets), made(now, targets)
    torch.testing.assert_close(said.loss, plain.loss)


def compiled(made: Decoder, backend: Any) -> Any:
    """The decoder as one graph; a break is an error."""
    torch._dynamo.reset()
    return torch.compile(made, backend=backend, fullgraph=True)


# -- 11


class Products(TorchDispatchMode):
    """Collects the products that a weight enters outside the call of an nn.Linear or nn.Embedding."""

    kinds = re.compile(r"aten\.(\w*mm\w*|mv|addmv|dot|vdot|linear|embedding|convolution|_fused\w*|_scaled_dot\w*)\.")

    def __init__(self, made: nn.Module) -> None:
        super().__init__()
        self.weights = {p.untyped_storage().data_ptr(): name for name, p in made.named_parameters()}
        self.inside, self.found = 0, list[str]()
        for part in made.modules():
            if type(part) in (nn.Linear, nn.Embedding):
                part.register_forward_pre_hook(lambda *_: self.step(1))
                part.register_forward_hook(lambda *_: self.step(-1))

    def step(self, by: int) -> None:
        self.inside += by

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.inside and self.kinds.match(str(func)):
            given = [x.untyped_storage().data_ptr() for x in args if isinstance(x, Tensor)]
            self.found += [f"{func} of {self.weights[one]}" for one in given if one in self.weights]
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("case", CASES)
def test_weights_meet_activations_only_in_linears(case: str):
    made = decoder(case)
    with force_kernel("naive"), Products(made) as products:
        made(tokens(BATCH, TIME), tokens(BATCH, TIME))
        made(tokens(BATCH, 1), positions=torch.tensor([[0]]), cache=made.new_cache(BATCH, TIME))
    assert not products.found


@pytest.mark.parametrize("product", ["x @ w.T", "F.linear(x, w)", "torch.einsum('btd,ed->bte', x, w)"])
def test_a_product_outside_a_linear_would_be_seen(product: str):
    made = decoder()
    attention: Any = attentions(made)[1]
    attention.v = Bare(attention.v.weight, product)
    with Products(made) as products:
        made(tokens(BATCH, TIME))
    assert products.found == [f"{products.found[0].split(' ')[0]} of blocks.1.attention.v.w"]


class Bare(nn.Module):
    """A weight that nobody who changes Linears would find."""

    def __init__(self, w: nn.Parameter, product: str) -> None:
        super().__init__()
        self.w, self.product = w, product

    def forward(self, x: Tensor) -> Tensor:
        return eval(self.product, {"torch": torch, "F": nn.functional, "x": x, "w": self.w})
