"""What shapes do not tell is found by asking every guess; and only a clear winner is believed."""

import json
import re
from pathlib import Path
from typing import Any

import foreign_checkpoint as given
import pytest
import torch
from conftest import normal, tokens
from rich.console import Console
from safetensors.torch import save_file
from tiny_runs import program
from torch import Tensor

from gptlab import compose as wiring
from gptlab.commands.search.guesses import Search
from gptlab.commands.search.outline import Outline
from gptlab.commands.search.solve import first_overrides, solve_checkpoint
from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.model.decoder import Decoder
from gptlab.training.build import build_decoder, build_uninitialized, load_starting_weights
from gptlab.weights.pretrained import families
from gptlab.weights.pretrained.mapping import apply_mapping, invert_mapping, parse_mapping

# -- the decoder that nobody could load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Someone else's checkpoint, its mapping, its examples in float64."""
    made = tmp_path_factory.mktemp("given")
    given.write(made)
    return made


def test_the_given_checkpoint_is_of_the_size_that_was_told():
    assert sum(one.numel() for one in given.weights().values()) == 3_156_992


ERRORS: list[tuple[dict[str, Any], float, float]] = [
    ({"heads": 1}, 0.251, 0.0139),
    ({"heads": 4}, 0.254, 0.0140),
    ({"turned": True}, 1.69, 0.095),
    ({"unbiased": True}, 0.0356, 0.0020),
    ({"approximate": "tanh"}, 7.9e-4, 4.4e-5),
    ({"eps": 1e-4}, 3.9e-4, 2.2e-5),
]
"""What a wrong guess costs: root mean square, and over the deviation of the logits."""


@pytest.mark.parametrize(("wrong", "rmse", "relative"), ERRORS, ids=str)
def test_a_wrong_guess_is_as_far_as_was_told_and_keeps_every_likeliest_token(wrong: dict, rmse: float, relative: float):
    weights, inputs = given.weights(), tokens(1, 256, below=given.VOCAB)
    right, other = given.said(weights, inputs), given.said(weights, inputs, **wrong)
    found = (other - right).square().mean().sqrt()
    assert found.item() == pytest.approx(rmse, rel=0.1)
    assert (found / right.std()).item() == pytest.approx(relative, rel=0.1)
    assert right.argmax(-1).equal(other.argmax(-1))


def search(folder: Path, *words: str) -> Any:
    """python -m gptlab search, in a folder of given files."""
    files = ("--mapping", f"{folder}/keys_mapping.json", "--examples", f"{folder}/examples.safetensors")
    return program("-m gptlab", "search", f"{folder}/weights.safetensors", *files, *words)


@pytest.mark.thorough
def test_it_is_solved_from_a_wrong_guess_and_a_run_can_start_from_it(folder: Path, tmp_path: Path):
    done = search(folder, "model.heads=1", "mlp=gelu_tanh", "norm.eps=1e-6", "--to", str(tmp_path / "solved"))
    assert done.status == 0, done.err
    wanted = "model.heads=2 model.head=128 attention.kv_heads=2 mlp.activation=gelu norm.eps=1e-05"
    assert wanted in done.out.splitlines()
    inputs = tokens(2, 50, below=given.VOCAB)
    with torch.no_grad():
        made = begun(tmp_path / "solved", "model.context=60").eval()
        torch.testing.assert_close(made(inputs).logits, given.said(given.weights(), inputs), atol=1e-3, rtol=1e-5)


def begun(folder: Path, *words: str) -> Decoder:
    """The decoder that a run with these overrides starts from."""
    recipe = wiring.compose(["pretrained=mapped", f"pretrained.path={folder}", *words])
    assert wiring.check_recipe(recipe) == []
    made = build_decoder(recipe, given.VOCAB)
    load_starting_weights(recipe, made)
    return made


def test_a_mapped_folder_that_is_not_whole_is_refused(folder: Path, tmp_path: Path):
    def refused(decoder: str, *words: str) -> str:
        (tmp_path / "decoder.json").write_text(decoder)
        with pytest.raises(Refused) as error:
            begun(tmp_path, *words)
        return str(error.value)

    assert "decoder.json is not {" in refused('{"vocab": 512}')
    assert "decoder.json holds no JSON object" in refused("[]")
    assert "decoder.json cannot be read: Expecting" in refused("{")
    assert "sets outputs; only attention, " in refused('{"vocab": 512, "knobs": {"outputs": "/"}}')
    assert "holds no weights" in refused('{"vocab": 512, "knobs": {}}')
    save_file(given.weights(), tmp_path / "model.safetensors")
    (tmp_path / "keys_mapping.json").write_text((folder / "keys_mapping.json").read_text())
    with pytest.raises(AssertionError, match="does not fit"):
        refused('{"vocab": 512, "knobs": {"position": "learned"}}')


@pytest.mark.thorough
def test_other_words_of_the_mapping_are_another_checkpoint(folder: Path, tmp_path: Path):
    solved = tmp_path / "solved"
    assert search(folder, "model.heads=2", "norm.eps=1e-5", "--to", str(solved)).status == 0
    words = ["pretrained=mapped", f"pretrained.path={solved}"]
    before = wiring.compose(words)
    mapping = solved / "keys_mapping.json"
    mapping.write_text(json.dumps(json.loads(mapping.read_text()), indent=7))  # the same mapping
    assert wiring.compose(words).hash == before.hash
    text = mapping.read_text()
    assert ".attention.q." in text
    mapping.write_text(
        text.replace(".attention.q.", ".x.").replace(".attention.k.", ".attention.q.").replace(".x.", ".attention.k.")
    )
    assert wiring.compose(words).hash != before.hash
    with pytest.raises(Refused, match="another mapping, now"):
        load_starting_weights(before, build_decoder(before, given.VOCAB, load_start=False))


def test_what_the_examples_cannot_tell_is_not_claimed(folder: Path, tmp_path: Path):
    weights = given.weights()
    for name in ("weights.safetensors", "keys_mapping.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    save_file(given.examples(weights, 1, 48, torch.float32), tmp_path / "examples.safetensors")
    known = ("--known", "packing", "--known", "activation", "--known", "squares")
    done = search(tmp_path, "model.heads=1", *known)
    assert done.status == 2
    assert done.err.startswith("error: not distinguishable by these examples: eps (the nearest is ")
    assert len(re.findall(r"e-0\d +\d\.\de-\d\d$", done.out, re.M)) >= 3  # the ranked table is there all the same
    assert "model.heads=2" in search(tmp_path, "model.heads=1", *known, "--known", "eps").out


def test_what_is_not_searched_is_not_found(folder: Path, tmp_path: Path):
    weights, inputs = given.weights(), tokens(1, 16, below=given.VOCAB)
    for name in ("weights.safetensors", "keys_mapping.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    examples = {"inputs": inputs, "outputs": given.said(weights, inputs, unbiased=True)}
    save_file(examples, tmp_path / "examples.safetensors")
    done = search(tmp_path, "--known", "eps", "--known", "activation")
    assert done.status == 2
    assert re.match(
        r"error: no guess says what the examples say: the nearest is 0\.\d+ away, and 0\.00\d+ is", done.err
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model.heads=3"], "model.heads=3 does not fit 256 features of queries, 256 of keys; try 1, 2, 4, 8"),
        (["--known", "colour"], "--known colour: nothing of that name is searched; heads, squares, packing"),
        (["norm.eps=much"], "norm.eps='much' is not a number"),
        (["--mapping", "nowhere.json"], "nowhere.json is not there"),
        (["--examples", "WEIGHTS"], "it must hold inputs (N, T), whole numbers, and outputs (N, T, vocab), floats"),
    ],
)
def test_what_cannot_be_searched_is_refused(folder: Path, words: list[str], told: str):
    done = search(folder, *(word.replace("WEIGHTS", f"{folder}/weights.safetensors") for word in words))
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert told in done.err


# -- Llama's kin: rotary, fused, grouped

TINY = ["model.width=48", "model.layers=2", "model.context=32", "model.heads=4", "norm.eps=1e-5", "mlp.hidden=80"]
B = "blocks.{i}."


def moved(recipe: Recipe) -> tuple[dict[str, Tensor], dict[str, Any], Tensor, Tensor]:
    """A decoder's weights under its own names, the mapping that leaves them there, and examples."""
    made = build_uninitialized(recipe, 31).double().eval()
    with torch.no_grad():
        for name, one in made.named_parameters():
            one += 0.3 * normal(*one.shape, key=name)
        inputs = tokens(2, 24)
        outputs = made(inputs).logits
    assert outputs is not None
    state = {name: one.detach() for name, one in made.named_parameters()}
    mapping = {re.sub(r"\.\d+\.", ".{i}.", name): re.sub(r"\.\d+\.", ".{i}.", name) for name in state}
    return state, mapping, inputs, outputs


def found(state: dict, mapping: dict, inputs: Tensor, outputs: Tensor, tmp_path: Path, *words: str) -> dict[str, Any]:
    """What a search from files finds, as a guess."""
    save_file({name: one.contiguous() for name, one in state.items()}, tmp_path / "weights.safetensors")
    save_file({"inputs": inputs, "outputs": outputs}, tmp_path / "examples.safetensors")
    (tmp_path / "keys_mapping.json").write_text(json.dumps(mapping))
    files, quiet = (tmp_path / "keys_mapping.json", tmp_path / "examples.safetensors"), Console(quiet=True)
    _, best = solve_checkpoint(tmp_path / "weights.safetensors", [*words], *files, [], wiring.compose, quiet)
    return vars(best)


def test_grouped_heads_and_rotary_pairs_and_theta_are_found(tmp_path: Path):
    recipe = wiring.compose([*TINY, "attention=gqa", "attention.kv_heads=2", "position.theta=500000"])
    state, mapping, inputs, outputs = moved(recipe)
    for name, one in state.items():
        if ".q." in name or ".k." in name:  # Meta's files: pairs stand side by side
            state[name] = one.unflatten(0, (-1, 2, 6)).transpose(1, 2).flatten(0, 2)
    best = found(state, mapping, inputs, outputs, tmp_path)
    assert best == {
        "heads": 4,
        "squares": "alike",
        "packing": "blocks",
        "pairs": "neighbours",
        "theta": 5e5,
        "activation": "silu",
        "eps": 1e-5,
    }


def test_rows_head_by_head_and_squares_that_lie_the_other_way_are_found(tmp_path: Path):
    parts = ["attention=mha", "position=learned", "mlp=gelu", "mlp.hidden=64", "bias=true", "norm=layernorm"]
    recipe = wiring.compose([*TINY, *parts])
    state, mapping, inputs, outputs = moved(recipe)
    for kind in ("weight", "bias"):  # BLOOM's and GPT-NeoX's
        for layer in range(2):
            rows = [state.pop(f"blocks.{layer}.attention.{one}.{kind}").unflatten(0, (4, 1, 12)) for one in "qkv"]
            state[f"blocks.{layer}.attention.qkv.{kind}"] = torch.cat(rows, 1).flatten(0, 2)
        to = [mapping.pop(f"{B}attention.{one}.{kind}") for one in "qkv"]
        mapping[f"{B}attention.qkv.{kind}"] = {"to": to, "split": {"axis": 0, "parts": 3}}
    for layer in range(2):
        state[f"blocks.{layer}.attention.out.weight"] = state[f"blocks.{layer}.attention.out.weight"].t()
    best = found(state, mapping, inputs, outputs, tmp_path, "mlp=relu")
    assert (best["heads"], best["packing"], best["squares"]) == (4, "by head", "turned")
    assert (best["activation"], best["eps"], best["pairs"]) == ("gelu", 1e-5, "halves")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_what_transformers_made_is_found_from_names_alone(kind: str, tmp_path: Path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6, "vocab_size": 31}
    more = {"intermediate_size": 80, "num_key_value_heads": 3, "rms_norm_eps": 1e-5} if kind == "llama" else {}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        kind, **sizes, **more, initializer_range=0.1, bos_token_id=0, eos_token_id=0
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    inputs = tokens(2, 24)
    with torch.no_grad():
        outputs = model(inputs).logits
    prefix = "transformer." if kind == "gpt2" else "model."
    tied = {"lm_head.weight"} if kind == "gpt2" else {*()}
    state = {name.removeprefix(prefix): one for name, one in model.state_dict().items() if name not in tied}
    names = {one.source: [*one.to] for one in families.find_family(config.to_dict()).names(config.to_dict()).entries}
    best = found(state, names, inputs, outputs, tmp_path)
    activation = "gelu_tanh" if kind == "gpt2" else "silu"
    assert (best["heads"], best["activation"], best["eps"], best["pairs"]) == (6, activation, 1e-5, "halves")


def test_guesses_that_say_the_same_are_one(tmp_path: Path):
    state, mapping, inputs, outputs = moved(wiring.compose([*TINY, "model.heads=24"]))  # two features a head: one pair
    parsed = parse_mapping(mapping)
    outline = Outline(parsed, {name: tuple(one.shape) for name, one in state.items()})
    recipe = wiring.compose(first_overrides(outline, ["model.heads=24"], 32))
    made = Search(recipe, parsed, state, inputs, outputs, ("squares", "theta", "activation", "eps"))
    ranked = made.rank_guesses()
    assert [one.guess.pairs for one in ranked if one.guess.heads == 24] == ["halves"]
    assert {one.guess.heads for one in ranked} == {1, 2, 3, 4, 6, 8, 12, 24}


# -- the mapping


def test_a_mapping_says_all_that_does_not_fit_at_once():
    source = {"a": torch.zeros(2, 3), "b": torch.zeros(4), "c": torch.zeros(2), "d": torch.zeros(5, 2)}
    mapping = parse_mapping({"a": "x", "c": "x", "d": ["p", "q", "r"]})
    with pytest.raises(Refused, match="does not fit") as refused:
        apply_mapping(mapping, source, {"x": (2, 3), "y": (1,), "p": (5, 1)})
    for told in ("b has no place", "x is written twice", "axis 1 of (5, 2) does not split in 3", "y is missing"):
        assert told in str(refused.value)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (7, "w: 7 is no target, list of targets, or object with `to`"),
        ({"to": "x", "transposed": True}, "w: transposed: no such key; did you mean transpose?"),
        ({"to": "x", "transpose": "yes"}, "w: transpose='yes' is not true or false or one of auto"),
        ({"to": "x", "permute": "rope"}, "w: permute='rope' is not one of none, rope_i2h, rope_h2i"),
        ({"to": ["x", "y"], "split": {"sizes": [1]}}, "w: split={'sizes': [1]} does not give 2 parts"),
        ({"to": ["x", "y"], "split": {"parts": 3}}, "w: split={'parts': 3} does not give 2 parts"),
        ({"to": ["x", "y"], "split": 2}, "w: split=2 is not"),
        ({"to": ["x", "y"], "axis": 0}, "w: axis is of the split; say it there"),
    ],
)
def test_a_mapping_that_is_none_is_refused(entry: Any, told: str):
    with pytest.raises(Refused, match=re.escape(told)):
        parse_mapping({"w": entry})


def test_every_step_of_a_mapping():
    whole = torch.arange(2 * 24.0).view(1, 2, 24)  # (1, in, out), as TensorFlow's files
    entry = {"to": ["q", "k", "v"], "squeeze": 0, "transpose": True, "split": {"axis": 0, "sizes": [12, 6, 6]}}
    q, k, v = apply_mapping(
        parse_mapping({"w": entry}), {"w": whole}, {"q": (12, 2), "k": (6, 2), "v": (6, 2)}
    ).values()
    assert torch.cat([q, k, v]).t().equal(whole[0])
    heads = {"to": ["q", "k", "v"], "heads": "per_head_interleaved"}
    rows = torch.arange(24.0)  # two heads of four: q, k, v of the first, then of the second
    made = apply_mapping(parse_mapping({"w": heads}, head=4), {"w": rows}, dict.fromkeys("qkv", (8,)))
    assert made["k"].tolist() == [4, 5, 6, 7, 16, 17, 18, 19]
    turned = apply_mapping(
        parse_mapping({"w": {"to": "x.q.bias", "permute": "rope_i2h"}}, head=4), {"w": rows[:8]}, {"x.q.bias": (8,)}
    )
    assert turned["x.q.bias"].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    back = apply_mapping(
        parse_mapping({"w": {"to": "x", "permute": "rope_h2i"}}, head=4), {"w": turned["x.q.bias"]}, {"x": (8,)}
    )
    assert back["x"].equal(rows[:8])
    fused = {"to": ["x.q.bias", "x.v.bias"], "permute": "rope_i2h"}
    values = apply_mapping(parse_mapping({"w": fused}, head=4), {"w": rows[:8]}, {"x.q.bias": (4,), "x.v.bias": (4,)})[
        "x.v.bias"
    ]
    assert values.equal(rows[4:8])  # values are not turned


STEPS: list[dict[str, Any]] = [
    {"to": ["x.q.bias", "x.k.bias", "x.v.bias"], "transpose": True, "split": {"axis": 0, "parts": 3}},
    {"to": ["x.q.bias", "x.k.bias", "x.v.bias"], "heads": "per_head_interleaved", "permute": "rope_i2h"},
    {"to": ["x.q.bias", "x.v.bias"], "split": {"axis": 0, "sizes": [16, 8]}, "permute": "rope_h2i"},
    {"to": "x.k.bias", "squeeze": 0, "transpose": True},
]


@pytest.mark.parametrize("entry", STEPS, ids=str)
def test_a_mapping_can_be_undone(entry: dict[str, Any]):
    shape = (1, 3, 24) if "squeeze" in entry else (3, 24) if entry.get("transpose") else (24, 3)
    source, mapping = torch.arange(72.0).view(shape), parse_mapping({"w": entry}, head=4)
    rows = entry.get("split", {}).get("sizes") or [24 // len(mapping.entries[0].to)] * 3
    wanted = {one: (count, 3) for one, count in zip(mapping.entries[0].to, rows, strict=False)}
    assert invert_mapping(mapping, apply_mapping(mapping, {"w": source}, wanted), 1)["w"].equal(source)
