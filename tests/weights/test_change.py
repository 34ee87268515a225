"""Laws of what is done to the Linears afterwards: for every YAML of conf/change, and for pairs in both orders."""

import copy
import io
import re
import shutil
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import BATCH, SIZES, TIME, VOCAB, choices, composed, perturb, tokens
from test_decoder_laws import logits
from tiny_runs import finished, numbers, summary, tiny, train
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import gptlab
from gptlab import compose as wiring
from gptlab.commands.formats.huggingface import export_run
from gptlab.config.factory import factory
from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.model.attention_kernels import force_kernel
from gptlab.model.costs import count_forward_flops, count_training_flops
from gptlab.model.decoder import Decoder
from gptlab.runs.record import read_recipe
from gptlab.study.transplant import Transplant
from gptlab.weights.change import merge, summary_metrics
from gptlab.weights.change.prune import Prune

LISTS = [f"change=[{one}]" for one in choices("change")]
LISTS += [f"change=[{','.join(pair)}]" for pair in permutations(choices("change"), 2) if "pack" not in pair]
LISTS = [one for one in LISTS if not one.endswith(",identity]")]  # what is left out is left out first
LISTS += ["change=[pack,lora]"]  # all that may follow what is packed, which comes first too
FEW = (*SIZES, "model.layers=2")


def recipe(*words: str) -> Recipe:
    """A small recipe with changes; lists and knobs as on the command line."""
    return composed(*FEW, *words)


def changed(*words: str) -> Decoder:
    """Its decoder in float64, at rest, every weight moved so that nothing is zero by luck."""
    made = wiring.build_decoder(recipe(*words), VOCAB).double().eval()
    perturb(made)
    return made


def newborn(*words: str) -> Decoder:
    """Its decoder at birth, in float64."""
    return wiring.build_decoder(recipe(*words), VOCAB).double().eval()


def plain() -> Decoder:
    """The decoder that nothing has changed."""
    return newborn()


# -- every change


@pytest.mark.few(6)
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
    whole, cache = logits(made, now), made.new_cache(BATCH, TIME)
    parts = [logits(made, now[:, part], positions=torch.arange(TIME)[None, part], cache=cache)
             for part in (slice(0, 7), slice(7, 8), slice(8, TIME))]  # fmt: skip
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    torch.testing.assert_close(logits(made, now[1:]), whole[1:])


@pytest.mark.parametrize("words", LISTS)
def test_a_checkpoint_gives_a_changed_decoder_back(words: str):
    made, now, file = changed(words), tokens(BATCH, TIME), io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    fresh = wiring.build_decoder(recipe(words, "seed=1"), VOCAB).double().eval()
    assert not torch.allclose(logits(fresh, now), logits(made, now))
    fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(logits(fresh, now), logits(made, now))
    assert summary_metrics(fresh) == summary_metrics(made)


@pytest.mark.parametrize("words", LISTS)
def test_what_learns_has_finite_gradients_and_what_is_frozen_none(words: str):
    made = changed(words)
    made(tokens(BATCH, TIME), tokens(BATCH, TIME, key="targets")).loss.backward()
    for name, p in made.named_parameters():
        assert (p.grad is None) == (not p.requires_grad), name
        assert p.grad is None or (p.grad.isfinite().all() and p.grad.any()), name
    learning = dict(made.trainable_parameters())
    assert list(map(id, learning.values())) == [id(p) for p in made.parameters() if p.requires_grad]
    assert not any("parametrizations" in name for name in learning)


@pytest.mark.parametrize("words", LISTS)
def test_promised_flops_are_the_counted_matmuls_of_a_changed_decoder(words: str):
    made = changed(words)
    unseen = sum((TIME**2 - b.attention.pairs(TIME)) * b.attention.pair_flops() for b in made.layers)
    with force_kernel("naive"), FlopCounterMode(display=False) as counted:
        made(tokens(BATCH, TIME), tokens(BATCH, TIME))
    assert counted.get_total_flops() == BATCH * (count_forward_flops(made, TIME) + unseen)


@pytest.mark.parametrize(
    "words", [["change=[]"], ["change=[prune]"], ["change=[lora]"], ["change=[lora]", "change.lora.rank=4", "mlp=moe"]]
)
def test_promised_training_flops_are_the_counted_matmuls_of_both_passes(words: list[str]):
    made = changed(*words)
    with force_kernel("naive"), FlopCounterMode(display=False) as counted:
        made(tokens(1, TIME), tokens(1, TIME)).loss.backward()
    hidden = 3 * sum((TIME**2 - b.attention.pairs(TIME)) * b.attention.pair_flops() for b in made.layers)
    first: list[Any] = [made.get_submodule(f"blocks.0.attention.{one}") for one in "qkv"] if "lora" in words[0] else []
    # Nothing before the first adapters learns, so no gradient of what they see is taken.
    unasked = 2 * TIME * sum(one.base.weight.numel() + one.down.weight.numel() for one in first)
    assert counted.get_total_flops() == count_training_flops(made, TIME) + hidden - unasked


@pytest.mark.parametrize("words", LISTS)
def test_a_merged_decoder_is_a_plain_one_that_says_the_same(words: str):
    made, now = changed(words), tokens(BATCH, TIME)
    said = logits(made, now)
    folded = merge(copy.deepcopy(made))
    torch.testing.assert_close(logits(folded, now), said)
    # Of [pack,lora] one token in 34 is 1.05e-5 off, all others 2e-6: its weights are right to half a digit (5e-8).
    most = (2e-5 if "pack" in words else 1e-5) * said.abs().max().item()
    torch.testing.assert_close(logits(folded.float(), now).double(), said, atol=most, rtol=0)
    fresh = plain()
    fresh.load_state_dict(folded.state_dict(), strict=True)
    assert [type(part) for part in fresh.modules() if isinstance(part, nn.Linear)] == [nn.Linear] * 15
    assert torch.equal(logits(made, now), said)  # the one that was copied is as it was


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own (2.13)
@pytest.mark.parametrize("words", ["change=[quantize,prune]", "change=[pack,lora]"])
def test_a_changed_decoder_is_one_graph(words: str):
    made, now, targets = changed(words), tokens(BATCH, TIME), tokens(BATCH, TIME, key="targets")
    torch._dynamo.reset()
    said = torch.compile(made, backend="eager", fullgraph=True)(now, targets)
    torch.testing.assert_close(said.loss, made(now, targets).loss)


@pytest.mark.parametrize("words", LISTS)
def test_changes_draw_by_seed_and_name_and_leave_torch_alone(words: str):
    before = torch.get_rng_state()
    first, again = (wiring.build_decoder(recipe(words), VOCAB).state_dict() for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    usual = plain().float().state_dict()
    names = {name: name.replace(".parametrizations.weight.original", ".weight") for name in first}
    shared = [name for name in first if names[name].replace(".base.", ".") in usual]
    packed = [name for name in first if name.endswith(".codes")]
    left_out = [name for name in usual if "identity" in words and ".attention.out." in name]
    assert len(shared) == len(usual) - len(packed) - len(left_out)
    assert bool(packed) == ("pack" in words)
    for name in shared:
        assert torch.equal(first[name], usual[names[name].replace(".base.", ".")]), name


# -- identity


def test_only_square_matrices_that_nothing_has_altered_are_left_out():
    for words, line in (
        (["change=[identity]", "change.identity.targets=blocks.*"], "takes in blocks.0.mlp.gate, which leads from"),
        (["change=[prune,identity]"], "change.identity.targets=*.attention.out: an earlier change has altered"),
    ):
        with pytest.raises(Refused, match=re.escape(line)):
            wiring.build_decoder(recipe(*words), VOCAB)
    made, now = changed("change=[identity]"), tokens(BATCH, TIME)
    assert sum(p.numel() for p in made.parameters()) < sum(p.numel() for p in plain().parameters())
    torch.testing.assert_close(logits(merge(copy.deepcopy(made)), now), logits(made, now))


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
    made = newborn("change=[lora]", "change.lora.rank=4", "change.lora.targets=[*.q,*.v]")
    wanted = [f"blocks.{n}.attention.{one}.{side}.weight" for n in (0, 1) for one in "qv" for side in ("down", "up")]
    assert [name for name, _ in made.trainable_parameters()] == wanted
    assert sum(p.numel() for _, p in made.trainable_parameters()) == 2 * 2 * 4 * (60 + 60)
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


AT_BIRTH = ["change=[prune]", "change.prune.start=0", "change.prune.ramp=0"]


@pytest.mark.parametrize(
    ("words", "start", "ramp"), [([], 50, 25), (["change.prune.start=90"], 90, 10), (["change.prune.ramp=0"], 50, 0)]
)
def test_it_prunes_half_way_and_over_a_quarter_unless_told(words: list[str], start: int, ramp: int):
    pruning: Any = newborn("change=[prune]", "steps=100", *words).get_submodule("pruning")
    assert (pruning.start, pruning.ramp) == (start, ramp)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_pruning_fits_into_the_shortest_training(steps: int):
    made = newborn("change=[prune]", f"steps={steps}")
    pruning: Any = made.get_submodule("pruning")
    for step in range(steps):
        pruning.after_step(step)
    assert summary_metrics(made)["sparsity"] == pytest.approx(0.5, abs=1e-3)


def zeros(made: Decoder) -> dict[str, int]:
    """Zero weights of each Linear."""
    return {name: int((part.weight == 0).sum()) for name, part in linears(made).items()}


@pytest.mark.parametrize("method", ["l1", "random"])
@pytest.mark.parametrize("sparsity", [0.1, 0.37, 0.9])
def test_exactly_so_many_weights_are_zero(method: str, sparsity: float):
    words = [*AT_BIRTH, f"change.prune.method={method}", f"change.prune.sparsity={sparsity}"]
    made, usual = newborn(*words), linears(plain())
    for name, count in zeros(made).items():
        assert count == (round(sparsity * usual[name].weight.numel()) if name != "readout.head" else 0), name
    every = newborn(*words, "change.prune.scope=global")
    total = sum(part.weight.numel() for name, part in usual.items() if name != "readout.head")
    assert sum(zeros(every).values()) == round(sparsity * total)
    assert zeros(every) != zeros(made)
    assert summary_metrics(every) == {"sparsity": pytest.approx(sparsity, abs=1 / total)}
    assert dict(every.named_parameters()).keys() == dict(made.named_parameters()).keys()


def test_l1_leaves_out_the_smallest():
    kept = linears(newborn(*AT_BIRTH, "change.prune.sparsity=0.3"))
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
    words = [*AT_BIRTH, "change.prune.method=random"]
    masks = [linears(newborn(*words, more)) for more in ("seed=0", "seed=0", "seed=1", "change.prune.targets=*.1.*")]
    first, again, other, few = [made["blocks.1.mlp.out"].weight == 0 for made in masks]
    assert torch.equal(first, again)
    assert torch.equal(first, few)
    assert not torch.equal(first, other)
    assert not torch.equal(first, masks[0]["blocks.0.mlp.out"].weight == 0)


@pytest.mark.parametrize(
    "words", [f"{' '.join(AT_BIRTH)} change.prune.sparsity=0", "change=[prune]", "change=[prune] change.prune.ramp=5"]
)
def test_pruning_nothing_is_the_identity(words: str):
    now = tokens(BATCH, TIME)
    assert torch.equal(logits(newborn(*words.split()), now), logits(plain(), now))


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("method", ["l1", "random"])
def test_the_ramp_grows_as_its_formula_and_what_is_pruned_stays_pruned(method: str, scope: str):
    made = plain()
    Prune(sparsity=0.8, ramp=10, every=4, method=method, scope=scope)(made, seed=3)  # type: ignore[arg-type]
    pruning: Any = made.get_submodule("pruning")
    before = {name: part.weight == 0 for name, part in linears(made).items()}
    for step, done in enumerate((0, 0, 0, 4, 4, 4, 4, 8, 8, 10, 10, 10, 10)):
        perturb(made, 0.01)
        pruning.after_step(step)
        now = {name: part.weight == 0 for name, part in linears(made).items()}
        assert all((now[name] | ~before[name]).all() for name in now)
        assert summary_metrics(made)["sparsity"] == pytest.approx(0.8 * (1 - (1 - done / 10) ** 3), abs=1e-3)
        before = now


def test_a_pruned_weight_is_muons_as_it_was():
    usual, pruned = composed(*FEW, "optimizer=muon"), composed(*FEW, "optimizer=muon", "change=[prune]")
    groups = []
    for made in (usual, pruned):
        optimizer = factory(made.config["optimizer"], "optimizer")(
            wiring.build_decoder(made, VOCAB).trainable_parameters()
        )
        groups.append([[p.shape for p in group["params"]] for group in optimizer.param_groups])
    assert groups[0][0]
    assert sorted(groups[0][0]) == sorted(groups[1][0])


# -- on the command line


def test_the_order_of_changes_is_kept_in_config_name_and_hash():
    there, back = composed("change=[prune,lora]"), composed("change=[lora,prune]")
    assert [*there.config["change"]] == ["prune", "lora"]
    assert [*back.config["change"]] == ["lora", "prune"]
    assert (there.label, back.label) == ("micro-prune+lora-s0", "micro-lora+prune-s0")
    assert composed("change=[lora]", "change.lora.rank=4").label == "micro-lora-rank_4-s0"
    assert len({there.hash, back.hash, composed("change=[lora]").hash, composed().hash}) == 4
    assert composed("change=lora").hash == composed("change=[lora]").hash


def test_no_change_leaves_no_trace():
    made = composed()
    assert made.config["change"] == {}
    assert made.hash == composed("change=[]").hash
    assert made.hash == Recipe({key: value for key, value in made.config.items() if key != "change"}).hash


NO_OPTION = f"change=lorra: no such option; choose from {', '.join(choices('change'))}"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("change=[lorra]", NO_OPTION),
        ("change=[lora,lora]", "change=[lora,lora] names a choice twice; name each once"),
        ("change.lora.rank=4", "change.lora.rank: lora is not in the list; say change=[lora]"),
        ("change.lorra.rank=4", NO_OPTION),
        ("change=[lora] change.lora.rnk=4", "change.lora.rnk: no such key; did you mean change.lora.rank?"),
        ("change=[lora] change.lora.rank=many", "change.lora.rank='many' is not an int"),
        ("change=[lora] change.lora.rank=0", "change.lora.rank=0 is not positive; try 8"),
        ("change=[lora] change.lora.alpha=0", "change.lora.alpha=0 is not positive; try 16, twice the rank"),
        ("change=[lora] change.lora.dropout=1", "change.lora.dropout=1 is not in [0, 1); 0 drops nothing"),
        (
            "change=[lora] change.lora.rank=61",
            "change.lora.rank=61 is more than 60, the smaller side of blocks.0.attention.q; 60 fits, or other targets",
        ),
        (
            "change=[lora] change.lora.targets=[*.q,*.w]",
            "change.lora.targets=*.w fits no Linear; there are blocks.*.attention.k, blocks.*.attention.out, "
            "blocks.*.attention.q, blocks.*.attention.v, blocks.*.mlp.gate, blocks.*.mlp.out, blocks.*.mlp.up, "
            "readout.head",
        ),
        (
            "change=[lora] change.lora.targets=*",
            "change.lora.targets=* takes in readout.head, whose weight is the embedding's; "
            "leave it out, as blocks.* does, or say readout=untied",
        ),
        ("change=[prune] change.prune.sparsity=1", "change.prune.sparsity=1 is not in [0, 1); 0 prunes nothing"),
        ("change=[prune] change.prune.method=l2", "change.prune.method='l2' is not one of l1, random"),
        ("change=[prune] change.prune.every=0", "change.prune.every=0 is not positive; try 10"),
        ("change=[prune] change.prune.ramp=-1", "change.prune.ramp=-1 is negative; 0 prunes at once"),
        (
            "change=[prune] change.prune.ramp=9 steps=8",
            "change.prune.ramp=9 ends after steps=8; try 4 or less",
        ),
    ],
)
def test_what_cannot_be_changed_is_told_in_one_line(words: str, line: str):
    try:
        wrong = wiring.check_recipe(composed(*FEW, *words.split()))
    except Refused as refused:
        wrong = [str(refused)]
    assert wrong == [line]


def test_an_untied_head_may_be_adapted():
    assert (
        wiring.check_recipe(recipe("readout=untied", "change=[lora]", "change.lora.targets=*", "change.lora.rank=3"))
        == []
    )


# -- a run


def tampered(folder: Path, to: Path) -> Path:
    """A copy of a finished run, as it would stand had it been killed after its last checkpoint but one."""
    shutil.copytree(folder, to / "runs" / folder.name)
    copied = to / "runs" / folder.name
    (copied / "summary.json").unlink()
    (copied / "checkpoints" / "previous.ckpt").replace(copied / "checkpoints" / "last.ckpt")
    return copied


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that was changed."""
    words = [
        "change=[prune,lora]",
        "change.prune.start=0",
        "change.prune.ramp=38",
        "change.prune.every=3",
        "change.prune.scope=global",
    ]
    return finished(*tiny(tmp_path_factory.mktemp("pool"), *words))


def test_a_changed_run_is_loaded_and_summed_up(done: Path):
    made, tokenizer = gptlab.load(done)
    found = summary(done)
    assert found["params"] == sum(p.numel() for p in made.parameters())
    assert found["params_trainable"] == sum(p.numel() for _, p in made.trainable_parameters()) < found["params"]
    assert {"sparsity": found["sparsity"]} == summary_metrics(made)
    assert found["sparsity"] == pytest.approx(0.5, abs=1e-3)
    born = wiring.build_decoder(read_recipe(done), tokenizer.vocab).state_dict()
    moved = {name.split(".")[-2] for name, value in made.state_dict().items() if not torch.equal(value, born[name])}
    assert moved == {"down", "up", "0"}  # 0 has the mask; the base, embeddings and norms are frozen


def test_a_changed_run_is_resumed_bit_for_bit(done: Path, tmp_path: Path):
    killed = tampered(done, tmp_path)
    assert train(f"resume={killed}").status == 0
    assert numbers(killed) == numbers(done)
    made, there = gptlab.load(done)[0].state_dict(), gptlab.load(killed)[0].state_dict()
    assert all(torch.equal(value, there[name]) for name, value in made.items())


@pytest.mark.parametrize(
    "words",
    [
        ["change=[pack,lora]"],
        [
            *("change=[quantize,prune]", "format@change.quantize.weight=binary_residual", "change.quantize.start=37"),
            "change.quantize.weight.gamma=learnt",
            *("format@change.quantize.activation=integer", "change.quantize.activation.fraction_width=tensor"),
        ],
    ],
    ids=" ".join,
)
def test_what_is_stored_or_rounded_is_resumed_bit_for_bit(words: list[str], tmp_path: Path):
    folder = finished(*tiny(tmp_path, *words))
    made, found = gptlab.load(folder)[0], summary(folder)
    assert {key: found[key] for key in summary_metrics(made)} == summary_metrics(made)
    assert summary_metrics(made).get("weight_bits") == (2 if "quantize" in words[0] else None)
    killed = tampered(folder, tmp_path / "killed")
    assert train(f"resume={killed}").status == 0
    assert numbers(killed) == numbers(folder)


def test_a_changed_run_is_exported_merged_and_a_checkpoint_is_changed_after_it_is_loaded(done: Path, tmp_path: Path):
    export_run(done, "hf", tmp_path / "hf", wiring.compose)
    made, tokenizer = gptlab.load(done)
    now = tokens(BATCH, 16, below=tokenizer.vocab)
    there = ["pretrained=hf", f"pretrained.path={tmp_path}/hf", "change=[lora]", "change.lora.rank=2"]
    begun = wiring.compose(there)
    assert wiring.check_recipe(begun) == []
    again = wiring.build_decoder(begun, tokenizer.vocab, load_start=True).eval()
    torch.testing.assert_close(logits(again, now), logits(made, now), atol=1e-5, rtol=0)
    assert {name.split(".")[-2] for name, _ in again.trainable_parameters()} == {"down", "up"}

    assert begun.config["optimizer"]["lr"] == 2e-4
    assert wiring.compose([*there[:2]]).config["optimizer"]["lr"] == 3e-5
    assert wiring.compose([*there[:2], "model.lr=1e-3"]).config["optimizer"]["lr"] == 1e-3
    assert wiring.compose([*there, "optimizer.lr=1e-3"]).config["optimizer"]["lr"] == 1e-3


def test_adapters_beside_weights_that_nobody_trained_are_named(tmp_path: Path):
    said = train(*tiny(tmp_path, "change=[lora]", "steps=2")).out
    assert "change=[lora] without pretrained: the weights that it freezes were drawn, not trained" in said
    assert "without pretrained" not in train(*tiny(tmp_path, "change=[prune]", "steps=2")).out


def test_one_set_of_weights_is_transplanted_before_it_is_changed(tmp_path: Path):
    shares = {"none": 0, "a tenth": 0.1, "half": 0.5}
    arms = {name: recipe(*AT_BIRTH, f"change.prune.sparsity={share}") for name, share in shares.items()}
    rows = Transplant(vocab=VOCAB, batch=1, rounds=1)(arms, 0, wiring.build_decoder, tmp_path)
    moved: Any = {row.arm: row.value for row in rows if row.metric == "RMSE"}
    assert 0 < moved["a tenth"] < moved["half"]
