"""Laws of what is done to the Linears afterwards: for every YAML of conf/change, and for pairs in both orders."""

import copy
import io
from itertools import permutations
from typing import Any

import pytest
import torch
from conftest import BATCH, SIZES, TIME, VOCAB, choices, composed, perturb, tokens
from running import finished, numbers, rows, summary, tiny, train
from test_laws import logits
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import gptlab
from gptlab import wiring
from gptlab.attend import kernel
from gptlab.change import merge, told
from gptlab.change.lora import Lora
from gptlab.change.prune import Prune
from gptlab.decoder import Decoder
from gptlab.recipe import Recipe

LISTS = [f"change=[{one}]" for one in choices("change")]
LISTS += [f"change=[{','.join(pair)}]" for pair in permutations(choices("change"), 2)]
FEW = (*SIZES, "model.layers=2")


def recipe(*words: str) -> Recipe:
    """A small recipe with changes; lists and knobs as on the command line."""
    return composed(*FEW, *words)


def changed(*words: str) -> Decoder:
    """Its decoder in float64, at rest, every weight moved so that nothing is zero by luck."""
    made = wiring.build(recipe(*words), VOCAB).double().eval()
    perturb(made)
    return made


def newborn(*words: str) -> Decoder:
    """Its decoder at birth, in float64."""
    return wiring.build(recipe(*words), VOCAB).double().eval()


def plain() -> Decoder:
    """The decoder that nothing has changed."""
    return newborn()


# -- every change


@pytest.mark.parametrize("words", LISTS)
def test_later_tokens_leave_earlier_logits_bit_equal_after_a_change(words: str):
    made, now = changed(words), tokens(BATCH, TIME)
    other = now.clone()
    other[:, 9:] = (now[:, 9:] + 1) % VOCAB
    said, differs = logits(made, now), logits(made, other)
    assert torch.equal(said[:, :9], differs[:, :9])
    assert not torch.isclose(said[:, 9:], differs[:, 9:]).all(-1).any()


@pytest.mark.parametrize("words", LISTS)
def test_a_changed_decoder_says_the_same_with_caches_and_alone(words: str):
    made, now = changed(words), tokens(BATCH, TIME)
    whole, memory = logits(made, now), made.memory(BATCH, TIME)
    parts = [logits(made, now[:, part], at=torch.arange(TIME)[None, part], memory=memory)
             for part in (slice(0, 7), slice(7, 8), slice(8, TIME))]  # fmt: skip
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    torch.testing.assert_close(logits(made, now[1:]), whole[1:])


@pytest.mark.parametrize("words", LISTS)
def test_a_checkpoint_gives_a_changed_decoder_back(words: str):
    made, now, file = changed(words), tokens(BATCH, TIME), io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    fresh = wiring.build(recipe(words, "seed=1"), VOCAB).double().eval()
    assert not torch.allclose(logits(fresh, now), logits(made, now))
    fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(logits(fresh, now), logits(made, now))
    assert told(fresh) == told(made)


@pytest.mark.parametrize("words", LISTS)
def test_what_learns_has_finite_gradients_and_what_is_frozen_none(words: str):
    made = changed(words)
    made(tokens(BATCH, TIME), tokens(BATCH, TIME, key="targets")).loss.backward()
    for name, p in made.named_parameters():
        assert (p.grad is None) == (not p.requires_grad), name
        assert p.grad is None or (p.grad.isfinite().all() and p.grad.any()), name
    learning = dict(made.learning())
    assert list(map(id, learning.values())) == [id(p) for p in made.parameters() if p.requires_grad]
    assert not any("parametrizations" in name for name in learning)


@pytest.mark.parametrize("words", LISTS)
def test_promised_flops_are_the_counted_matmuls_of_a_changed_decoder(words: str):
    made = changed(words)
    unseen = sum((TIME**2 - b.attention.pairs(TIME)) * b.attention.pair_flops() for b in made.layers)
    with kernel("naive"), FlopCounterMode(display=False) as counted:
        made(tokens(BATCH, TIME), tokens(BATCH, TIME))
    assert counted.get_total_flops() == BATCH * (made.flops(TIME) + unseen)


@pytest.mark.parametrize("words", LISTS)
def test_a_merged_decoder_is_a_plain_one_that_says_the_same(words: str):
    made, now = changed(words), tokens(BATCH, TIME)
    said = logits(made, now)
    folded = merge(copy.deepcopy(made))
    torch.testing.assert_close(logits(folded, now), said)
    torch.testing.assert_close(logits(folded.float(), now).double(), said, atol=1e-5 * said.abs().max().item(), rtol=0)
    fresh = plain()
    fresh.load_state_dict(folded.state_dict(), strict=True)
    assert [type(part) for part in fresh.modules() if isinstance(part, nn.Linear)] == [nn.Linear] * 15
    assert torch.equal(logits(made, now), said)  # the one that was copied is as it was


@pytest.mark.parametrize("words", LISTS)
def test_a_changed_decoder_is_one_graph(words: str):
    made, now, targets = changed(words), tokens(BATCH, TIME), tokens(BATCH, TIME, key="targets")
    torch._dynamo.reset()
    said = torch.compile(made, backend="eager", fullgraph=True)(now, targets)
    torch.testing.assert_close(said.loss, made(now, targets).loss)


@pytest.mark.parametrize("words", LISTS)
def test_changes_draw_by_seed_and_name_and_leave_torch_alone(words: str):
    before = torch.get_rng_state()
    first, again = (wiring.build(recipe(words), VOCAB).state_dict() for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    usual = plain().float().state_dict()
    names = {name: name.replace(".parametrizations.weight.original", ".weight") for name in first}
    shared = [name for name in first if names[name].replace(".base.", ".") in usual]
    assert len(shared) == len(usual)
    for name in shared:
        assert torch.equal(first[name], usual[names[name].replace(".base.", ".")]), name


# -- lora


def linears(made: Decoder) -> dict[str, nn.Linear]:
    """By name."""
    return {name: part for name, part in made.named_modules() if isinstance(part, nn.Linear)}


@pytest.mark.parametrize("words", [[], ["change.lora.rank=1", "change.lora.alpha=0.5", "change.lora.dropout=0.5"]])
def test_an_adapter_changes_nothing_at_birth(words: list[str]):
    now = tokens(BATCH, TIME)
    assert torch.equal(logits(newborn("change=[lora]", *words), now), logits(plain(), now))


def test_an_adapted_linear_is_its_formula():
    made = changed("change=[lora]", "change.lora.rank=3", "change.lora.alpha=2")
    part: Any = made.get_submodule("blocks.1.attention.q")
    x = torch.randn(4, 60, dtype=torch.float64)
    wanted = x @ (part.base.weight + 2 / 3 * part.up.weight @ part.down.weight).T + part.base.bias
    torch.testing.assert_close(part(x), wanted)


def test_what_learns_is_the_adapters_of_the_targets_alone():
    made = newborn("change=[lora]", "change.lora.rank=4", "change.lora.targets=*.attention.[qv]")
    wanted = [f"blocks.{n}.attention.{one}.{side}.weight" for n in (0, 1) for one in "qv" for side in ("down", "up")]
    assert [name for name, _ in made.learning()] == wanted
    assert sum(p.numel() for _, p in made.learning()) == 2 * 2 * 4 * (60 + 60)
    start = made.get_parameter("blocks.0.attention.v.down.weight")
    assert start.abs().max() <= 60**-0.5  # kaiming's bound for a = sqrt(5)
    assert start.abs().max() > 0.9 * 60**-0.5
    wide = newborn("change=[lora]", "change.lora.rank=4")
    assert torch.equal(start, wide.get_parameter("blocks.0.attention.v.down.weight"))  # whatever else is adapted


def test_dropout_of_an_adapter_acts_in_training_alone():
    made, now = changed("change=[lora]", "change.lora.dropout=0.5"), tokens(BATCH, TIME)
    assert torch.equal(logits(made, now), logits(made, now))
    made.train()
    assert not torch.equal(logits(made, now), logits(made, now))


# -- prune


def zeros(made: Decoder) -> dict[str, int]:
    """Zero weights of each Linear."""
    return {name: int((part.weight == 0).sum()) for name, part in linears(made).items()}


@pytest.mark.parametrize("method", ["l1", "random"])
@pytest.mark.parametrize("sparsity", [0.1, 0.37, 0.9])
def test_exactly_so_many_weights_are_zero(method: str, sparsity: float):
    words = ["change=[prune]", f"change.prune.method={method}", f"change.prune.sparsity={sparsity}"]
    made, usual = newborn(*words), linears(plain())
    for name, count in zeros(made).items():
        assert count == (round(sparsity * usual[name].weight.numel()) if name != "readout.head" else 0), name
    every = newborn(*words, "change.prune.scope=global")
    total = sum(part.weight.numel() for name, part in usual.items() if name != "readout.head")
    assert sum(zeros(every).values()) == round(sparsity * total)
    assert zeros(every) != zeros(made)
    assert told(every) == {"sparsity": pytest.approx(sparsity, abs=1 / total)}
    assert dict(every.named_parameters()).keys() == dict(made.named_parameters()).keys()


def test_l1_leaves_out_the_smallest():
    kept = linears(newborn("change=[prune]", "change.prune.sparsity=0.3"))
    for name, part in linears(plain()).items():
        gone = kept[name].weight == 0
        if name != "readout.head":
            assert part.weight[gone].abs().max() <= part.weight[~gone].abs().min()
        assert torch.equal(kept[name].weight[~gone], part.weight[~gone])


def test_equal_weights_are_pruned_to_the_count():
    made = plain()
    for part in linears(made).values():
        nn.init.ones_(part.weight)
    Prune(sparsity=0.5)(made)
    assert zeros(made)["blocks.0.mlp.out"] == made.get_submodule("blocks.0.mlp.out").weight.numel() // 2  # type: ignore[union-attr,operator]


def test_random_is_of_the_seed_and_the_name():
    words = ["change=[prune]", "change.prune.method=random"]
    masks = [linears(newborn(*words, more)) for more in ("seed=0", "seed=0", "seed=1", "change.prune.targets=*.1.*")]
    first, again, other, few = [made["blocks.1.mlp.out"].weight == 0 for made in masks]
    assert torch.equal(first, again)
    assert torch.equal(first, few)
    assert not torch.equal(first, other)
    assert not torch.equal(first, masks[0]["blocks.0.mlp.out"].weight == 0)


@pytest.mark.parametrize("words", ["change.prune.sparsity=0", "change.prune.ramp=5"])
def test_pruning_nothing_is_the_identity(words: str):
    now = tokens(BATCH, TIME)
    assert torch.equal(logits(newborn("change=[prune]", words), now), logits(plain(), now))


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("method", ["l1", "random"])
def test_the_ramp_grows_as_its_formula_and_what_is_pruned_stays_pruned(method: str, scope: str):
    made = plain()
    Prune(sparsity=0.8, ramp=10, every=4, method=method, scope=scope)(made, seed=3)  # type: ignore[arg-type]
    pruning: Any = made.get_submodule("pruning")
    before = {name: part.weight == 0 for name, part in linears(made).items()}
    for step in range(13):
        perturb(made, 0.01)
        pruning.after_step(step)
        now = {name: part.weight == 0 for name, part in linears(made).items()}
        assert all((now[name] | ~before[name]).all() for name in now)
        done = {3: 4, 7: 8, 9: 10}.get(step, done if step else 0)
        assert told(made)["sparsity"] == pytest.approx(0.8 * (1 - (1 - done / 10) ** 3), abs=1e-3)
        before = now


def test_a_pruned_weight_is_muons_as_it_was():
    usual, pruned = composed(*FEW, "optimizer=muon"), composed(*FEW, "optimizer=muon", "change=[prune]")
    groups = []
    for made in (usual, pruned):
        from gptlab.factory import factory

        optimizer = factory(made.config["optimizer"], "optimizer")(wiring.build(made, VOCAB).learning())
        groups.append([[p.shape for p in group["params"]] for group in optimizer.param_groups])
    assert groups[0][0]
    assert sorted(groups[0][0]) == sorted(groups[1][0])
