"""Laws of parametrizations: the base is the standard one, factors are the papers', what has no rule is refused."""

import math
from typing import Any

import pytest
import torch
from conftest import PARTS, choices, composed
from torch import Tensor, nn

from gptlab.config.factory import factory
from gptlab.config.recipe import Recipe
from gptlab.model.decoder import Decoder
from gptlab.model.parameter_kinds import find_kinds
from gptlab.training.build import build_decoder, build_on_meta
from gptlab.training.check import check_recipe
from gptlab.training.optimizer import scale_groups

VOCAB = 31
BASE = ("model.width=64", "model.heads=4", "model.layers=2", "model.context=24")
WIDE = ("model.width=192", "model.heads=4", "model.layers=6", "model.context=24")
"""Three times the base in width, head and depth."""
SCALED = ("mup", "completep")


def build(*words: str) -> tuple[Recipe, Decoder]:
    recipe = composed(*words)
    return recipe, build_decoder(recipe, VOCAB)


def make_optimizer(recipe: Recipe, decoder: Decoder) -> torch.optim.Optimizer:
    optimizer = factory(recipe.config["optimizer"], "optimizer")(decoder.trainable_parameters())
    scale_groups(optimizer, decoder.trainable_parameters(), decoder.scaling)
    return optimizer


def train(recipe: Recipe, decoder: Decoder, steps: int = 3) -> list[float]:
    """The losses of a few steps on one batch."""
    tokens = torch.randint(VOCAB, (2, 25), generator=torch.Generator().manual_seed(0))
    optimizer, losses = make_optimizer(recipe, decoder), []
    for _ in range(steps):
        loss = decoder(tokens[:, :-1], tokens[:, 1:]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def find_knobs(recipe: Recipe, decoder: Decoder) -> dict[str, dict[str, Any]]:
    """The group of each parameter by name."""
    names = {p: name for name, p in decoder.trainable_parameters()}
    return {names[p]: group for group in make_optimizer(recipe, decoder).param_groups for p in group["params"]}


# -- the base


@pytest.mark.few(4)
@pytest.mark.parametrize("optimizer", sorted({*choices("optimizer")} - {"soap"}))
@pytest.mark.parametrize("parametrization", SCALED)
def test_at_the_base_it_is_the_standard_parametrization_bit_for_bit(parametrization: str, optimizer: str):
    words = (*BASE, f"optimizer={optimizer}")
    standard = train(*build(*words))
    assert train(*build(*words, f"parametrization={parametrization}")) == standard


@pytest.mark.parametrize("residual", ["pre", "sandwich", "post"])
def test_beyond_the_base_they_differ_and_the_depth_is_completeps_alone(residual: str):
    deep = ("model.width=64", "model.heads=4", "model.layers=4", "model.context=24", f"residual={residual}")
    standard, mup, completep = (train(*build(*deep, f"parametrization={p}")) for p in ("standard", *SCALED))
    assert mup == standard != completep
    wide = (*deep[2:], "model.width=128", "model.heads=8")
    assert train(*build(*wide, "parametrization=mup")) != train(*build(*wide))


def test_a_run_without_the_key_is_the_standard_one():
    recipe = composed(*BASE)
    config = {key: value for key, value in recipe.config.items() if key != "parametrization"}
    assert Recipe(config).hash == recipe.hash
    assert len({recipe.hash, *(composed(*BASE, f"parametrization={p}").hash for p in SCALED)}) == 3


# -- the factors, against the tables of the papers written out for the plain decoder


def name_kind(name: str) -> str:
    """Tensor Programs V for a GPT of Linears without biases, by hand."""
    if name == "readout.head.weight":
        return "readout"
    return "hidden" if name.split(".")[-2] in ("q", "k", "v", "out", "up", "gate") else "input"


@pytest.mark.parametrize("parametrization", SCALED)
@pytest.mark.parametrize("optimizer", ["adamw", "lion", "sgd", "muon"])
def test_rates_are_those_of_the_papers(optimizer: str, parametrization: str):
    words = (*WIDE, f"optimizer={optimizer}", "readout=untied", f"parametrization={parametrization}")
    recipe, decoder = build(*words)
    lr, m, depth = recipe.config["optimizer"]["lr"], 3, 3 if parametrization == "completep" else 1
    factors = {
        "adamw": {"input": 1, "hidden": 1 / m, "readout": 1},
        "lion": {"input": 1, "hidden": 1 / m, "readout": 1},
        "sgd": {"input": m, "hidden": 1, "readout": m},
        "muon": {"input": 1 / 5, "hidden": m**-0.5, "readout": 1 / 5},  # AdamW's groups have a fifth of Muon's rate
    }[optimizer]
    for name, group in find_knobs(recipe, decoder).items():
        in_depth = depth if optimizer == "sgd" and name.startswith("blocks.") else 1
        assert group["lr"] == pytest.approx(lr * factors[name_kind(name)] * in_depth), name
        if group["weight_decay"]:  # a step decays as much as at the base
            base = lr / 5 if optimizer == "muon" and name_kind(name) != "hidden" else lr
            assert group["lr"] * group["weight_decay"] == pytest.approx(
                base * recipe.config["optimizer"]["weight_decay"]
            )
        if optimizer == "adamw":
            assert group["eps"] == pytest.approx(1e-8 / m / (depth if name.startswith("blocks.") else 1))


@pytest.mark.few(4)
@pytest.mark.parametrize("parametrization", SCALED)
@pytest.mark.parametrize("init", choices("init"))
def test_first_values_follow_the_width_as_the_paper_says_whatever_the_init_does(init: str, parametrization: str):
    words = (f"init={init}", "readout=untied", f"parametrization={parametrization}")
    chosen = factory(composed(f"init={init}").config["init"], "init")()
    base, wide = (build(*sizes, *words)[1] for sizes in (BASE, WIDE))
    for name, p in base.named_parameters():
        if p.ndim < 2 or not p.any():  # init=zero_out
            continue
        expected = p.std() * (3**-0.5 if name_kind(name) == "hidden" else 1)
        # an init that starts by the depth what writes into the stream still does where the depth is not scaled
        if parametrization == "mup":
            powers = chosen.std_powers(wide.get_submodule(name.rpartition(".")[0]), name)
            assert powers is not None, name
            expected = expected * 3**powers.layers
        assert wide.get_parameter(name).std().item() == pytest.approx(expected.item(), rel=0.05), name


@pytest.mark.parametrize("init", choices("init"))
def test_an_init_says_how_its_first_values_follow_the_sizes(init: str):
    narrow, wide = (build(*sizes, f"init={init}", "readout=untied", "bias=true")[1] for sizes in (BASE, WIDE))
    chosen = factory(composed(f"init={init}").config["init"], "init")()
    for path, module in narrow.named_modules():
        if not isinstance(module, nn.Linear | nn.Embedding):
            continue
        for name, p in module.named_parameters(path):
            powers = chosen.std_powers(module, name)
            if p.std() == 0 or p.numel() < 64:
                continue
            other = wide.get_parameter(name)
            inputs = getattr(wide.get_submodule(path), "in_features", 1) / getattr(module, "in_features", 1)
            larger = max(other.shape) / max(p.shape)
            expected = 3 ** (powers.width + powers.layers) * inputs**powers.inputs * larger**powers.larger
            assert (other.std() / p.std()).item() == pytest.approx(expected, rel=0.2 if p.ndim < 2 else 0.05), name


# -- kinds


def test_kinds_are_found_by_the_sides_that_grow():
    words = (*BASE, "mlp=moe", "attention=gqa", "attention.gate=head", "position=t5_relative", "residual=hyper")
    _, decoder = build(*words, "parametrization=mup", "bias=true")
    assert decoder.scaling is not None
    kinds: dict[str, str] = decoder.scaling.kinds  # type: ignore[attr-defined]
    block = {name.removeprefix("blocks.1."): kind for name, kind in kinds.items() if name.startswith("blocks.1.")}
    assert kinds["embedding.weight"] == kinds["norm.weight"] == "input"
    assert kinds["position.table.weight"] == "fixed"
    assert {block[f"attention.{name}.weight"] for name in ("q", "k", "v", "out")} == {"hidden"}
    assert block["attention.gate.weight"] == block["mlp.router.weight"] == "output"
    assert block["attention_residual.dynamic_take.weight"] == "output"
    assert block["attention.q.bias"] == block["mlp_residual.norm.weight"] == "input"
    assert block["attention.gate.bias"] == block["attention_residual.mix"] == "fixed"
    assert {kind for name, kind in block.items() if "experts" in name and "weight" in name} == {"hidden"}


def test_an_inner_width_that_a_knob_holds_fixed_is_wide_all_the_same():
    _, free = build(*BASE, "parametrization=mup")
    _, given = build(*BASE, "parametrization=mup", "mlp.hidden=176")
    assert free.layers[0].mlp.hidden == given.layers[0].mlp.hidden
    assert free.scaling == given.scaling


def test_kinds_do_not_depend_on_names():
    class Anything(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(width, 5), nn.Linear(5, width), nn.Embedding(7, width)

    kinds = find_kinds(Anything(8), Anything(16))  # type: ignore[arg-type]
    assert kinds == {
        "a.weight": "output",
        "a.bias": "fixed",
        "b.weight": "input",
        "b.bias": "input",
        "c.weight": "input",
    }


# -- multipliers


def test_scores_and_readout_and_branches_are_multiplied_as_the_papers_say():
    words = ("model.width=192", "model.heads=4", "model.layers=6", "model.context=24")
    _, scaled = build(*words, "parametrization=completep")
    _, plain = build(*words, f"attention.scale={16**0.5 / 48}")  # sqrt(base_head) / head in place of 1 / sqrt(head)
    plain.load_state_dict(scaled.state_dict())
    with torch.no_grad():
        # tied: logits alone are divided
        head = plain.get_submodule("readout.head")
        head.weight = nn.Parameter(plain.embedding.weight / 3)
        for name, p in plain.named_parameters():
            if name.endswith(".out.weight"):
                p /= 3
    tokens = torch.randint(VOCAB, (2, 20), generator=torch.Generator().manual_seed(1))
    ours, theirs = (either.double().eval()(tokens).logits for either in (scaled, plain))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("attention", ["mha", "mla", "moba", "talking_heads"])
def test_attentions_scale_their_scores_by_the_head(attention: str):
    """With queries and keys that are all alike, scores grow with the head; sqrt(base) / head takes that back."""

    def measure_scale(head: int) -> float:
        recipe = composed(*BASE, f"attention={attention}", f"model.head={head}", "parametrization=mup")
        scale: Any = build_on_meta(recipe, VOCAB).layers[0].attention.scale
        scale = head**-0.5 if scale is None else scale
        return scale * (head if attention != "mla" else 1.5 * head)

    if attention == "mla":
        assert measure_scale(64) == pytest.approx(1.5**0.5 * 4)
    else:
        assert measure_scale(16) == pytest.approx(measure_scale(64)) == pytest.approx(4)


# -- what goes with what


WORDS = sorted({f"{slot}={choice}" for slot in (*PARTS, "init", "optimizer") for choice in choices(slot)})
REFUSED = {
    "mup": {"attention=cope", "attention=differential", "attention=rwkv7", "norm=dyt", "optimizer=soap"},
    "completep": {
        *(f"residual={name}" for name in ("hyper", "mhc", "ln_scaling", "x0", "unet", "denseformer")),
        *("residual=attention_residual", "block=no_mlp_residual"),
    },
}


CASES = [("mup", word) for word in WORDS]
"""CompleteP has refusals of its own in the slots whose parts the depth adds up."""
CASES += [("completep", word) for word in WORDS if word.startswith(("residual", "block"))]


@pytest.mark.few(30)
@pytest.mark.parametrize(("parametrization", "word"), CASES)
def test_every_choice_is_scaled_or_refused_in_a_line_that_names_it(parametrization: str, word: str):
    position = ["position=nope"] if word in ("attention=forgetting",) else []
    problems = check_recipe(composed(*WIDE, word, *position, f"parametrization={parametrization}"))
    slot = word.partition("=")[0]
    if word in REFUSED[parametrization]:
        (problem,) = problems
        assert problem.startswith("parametrization")
        # a slot whose part has no word for it, or the choice itself
        assert f"{slot} (" in problem or word in problem
    else:
        assert not problems


@pytest.mark.parametrize("word", ["attention=differential", "attention=rwkv7"])
def test_heads_as_wide_as_at_the_base_need_no_scale(word: str):
    assert not check_recipe(composed("model.width=128", "model.heads=8", word, "parametrization=mup"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["change=[lora]"], "is no parameter of the decoder before its changes"),
        (["parametrization.base_width=0"], "parametrization.base_width=0 is not positive"),
        (["parametrization.alpha=0.2"], "parametrization.alpha=0.2 is not in 0.5 .. 1"),
        (["attention.scale=0.1"], "attention (SoftmaxAttention), whose scores nothing scales"),
    ],
)
def test_what_has_no_rule_is_refused(words: list[str], said: str):
    (problem,) = check_recipe(composed(*WIDE, "parametrization=mup", *words))
    assert said in problem
    assert "\n" not in problem


def test_an_optimizer_that_says_nothing_of_its_step_is_refused():
    _, decoder = build(*WIDE, "parametrization=mup")
    named = decoder.trainable_parameters()
    with pytest.raises(ValueError, match=r"optimizer \(Rprop\)"):
        scale_groups(torch.optim.Rprop([p for _, p in named]), named, decoder.scaling)


def test_a_standard_optimizer_keeps_its_groups():
    recipe, decoder = build(*WIDE)
    named = decoder.trainable_parameters()
    optimizer = factory(recipe.config["optimizer"], "optimizer")(named)
    groups = [*optimizer.param_groups]
    scale_groups(optimizer, named, decoder.scaling)
    assert decoder.scaling is None
    assert all(a is b for a, b in zip(optimizer.param_groups, groups, strict=True))


def test_a_factor_of_a_tensor_is_a_power_of_the_ratio():
    """Rates at four times the width are those at twice the width, scaled once more by two."""

    def read(width: int) -> dict[str, float]:
        recipe, decoder = build(f"model.width={width}", *BASE[1:], "parametrization=mup")
        return {name: group["lr"] for name, group in find_knobs(recipe, decoder).items()}

    one, two, four = read(64), read(128), read(256)
    for name in one:
        assert math.log2(one[name] / two[name]) == pytest.approx(math.log2(two[name] / four[name]))


def count(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


@pytest.mark.parametrize("optimizer", sorted({*choices("optimizer")} - {"soap"}))
def test_every_parameter_stays_in_one_group(optimizer: str):
    recipe, decoder = build(*WIDE, f"optimizer={optimizer}", "parametrization=mup")
    grouped = [p for group in make_optimizer(recipe, decoder).param_groups for p in group["params"]]
    assert count(grouped) == count([p for _, p in decoder.trainable_parameters()])
