"""Checkpoints that transformers wrote: the same logits, on every family that our slots express; and all that is not
whole or does not fit is refused in one line."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_tokenizer import leveled, pieced
from tiny_runs import ROOT, TINY, Done, finished, numbers, program, summary, train
from torch import Tensor

from gptlab import compose as wiring
from gptlab.errors import Refused
from gptlab.model.decoder import Decoder
from gptlab.training.build import build_decoder, load_starting_weights
from gptlab.weights.pretrained import families

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
VOCAB, TIME = 97, 41
LLAMA: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "max_position_embeddings": 64,
}
SCALED = {"rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", {"n_positions": 64, "n_embd": 48, "n_layer": 3, "n_head": 6}),
    "gpt2, other activation, width, epsilon": (
        "GPT2",
        {"n_positions": 64, "n_embd": 36, "n_layer": 2, "n_head": 3, "n_inner": 50, "activation_function": "gelu"}
        | {"layer_norm_epsilon": 1e-3, "tie_word_embeddings": False, "scale_attn_weights": False},
    ),
    "llama 1": ("Llama", {**LLAMA, "num_key_value_heads": 6, "rms_norm_eps": 1e-5}),
    "llama with biases": ("Llama", {**LLAMA, "attention_bias": True, "mlp_bias": True, "head_dim": 10}),
    "llama 3": (
        "Llama",
        {
            **LLAMA,
            "rope_parameters": {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, **SCALED},
        },
    ),
    "llama linear": ("Llama", {**LLAMA, "rope_parameters": {"rope_type": "linear", **SCALED}}),
    "llama yarn": ("Llama", {**LLAMA, "rope_parameters": {"rope_type": "yarn", **SCALED}}),
    "llama dynamic": (
        "Llama",
        {**LLAMA, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 5e4, "factor": 2.0}},
    ),
    "smollm": ("Llama", {**LLAMA, "tie_word_embeddings": True}),
    "mistral": ("Mistral", {**LLAMA, "sliding_window": 7}),
    "mistral without a window": ("Mistral", {**LLAMA, "sliding_window": None}),
    "qwen2": ("Qwen2", LLAMA),
    "qwen2, windowed": ("Qwen2", {**LLAMA, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0}),
    "qwen3": ("Qwen3", {**LLAMA, "head_dim": 12, "tie_word_embeddings": True}),
}


def saved(kind: str, knobs: dict[str, Any], folder: Path, vocab: int = VOCAB, **how: Any) -> Any:
    """A model of transformers with weights large enough that everything matters, and its folder."""
    torch.manual_seed(0)
    usual = {"vocab_size": vocab, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.2}
    config = getattr(transformers, f"{kind}Config")(**usual, **knobs)
    heads = {"GPT2": "GPT2LMHeadModel"}
    model = getattr(transformers, heads.get(kind, f"{kind}ForCausalLM"))(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)  # biases and norms too
    model.save_pretrained(folder, **how)
    return model


def ours(folder: Path | str, *more: str) -> Decoder:
    """The decoder of a checkpoint."""
    recipe = wiring.compose(["pretrained=hf", f"pretrained.path={folder}", *more])
    assert wiring.check_recipe(recipe) == []
    decoder = build_decoder(recipe, VOCAB)
    load_starting_weights(recipe, decoder)
    return decoder.eval()


def logits(model: Any, tokens: Tensor) -> Tensor:
    """Of either kind."""
    with torch.no_grad():
        return model(tokens).logits


def far(model: Any, decoder: Decoder) -> float:
    """The largest difference of logits over the largest logit."""
    tokens = torch.randint(0, VOCAB, (2, TIME), generator=torch.Generator().manual_seed(1))
    wanted = logits(model, tokens)
    return ((logits(decoder, tokens) - wanted).abs().max() / wanted.abs().max()).item()


@pytest.mark.parametrize("case", CASES)
def test_transformers_says_the_same(case: str, tmp_path: Path):
    model = saved(*CASES[case], tmp_path)
    assert far(model, ours(tmp_path)) < 1e-4


def test_names_without_prefix_shards_and_torch_files_say_the_same(tmp_path: Path):
    model = saved(*CASES["gpt2"], tmp_path / "sharded", max_shard_size="40KB")
    assert len([*(tmp_path / "sharded").glob("*.safetensors")]) > 2
    assert far(model, ours(tmp_path / "sharded")) < 1e-4
    (tmp_path / "plain").mkdir()
    state = {key.removeprefix("transformer."): one for key, one in model.state_dict().items() if "lm_head" not in key}
    state["h.0.attn.bias"] = torch.ones(1, 1, 64, 64).tril()  # a buffer that old files hold
    torch.save(state, tmp_path / "plain" / "pytorch_model.bin")
    (tmp_path / "plain" / "config.json").write_text((tmp_path / "sharded" / "config.json").read_text())
    assert far(model, ours(tmp_path / "plain")) < 1e-4
    assert far(model, ours(tmp_path / "plain" / "pytorch_model.bin")) < 1e-4


@pytest.mark.few(4)
@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model.", "module._orig_mod.", "net.inner."])
@pytest.mark.parametrize("case", ["gpt2", "smollm", "llama 1"])
def test_a_prefix_that_all_names_share_is_taken_off(case: str, prefix: str, tmp_path: Path):
    model = saved(*CASES[case], tmp_path)
    (tmp_path / "model.safetensors").unlink()
    state = {f"{prefix}{name}": one for name, one in model.state_dict().items()}
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert far(model, ours(tmp_path)) < 1e-5
    torch.save({**state, "stranger": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(Refused, match=r"does not fit: stranger has no place$"):
        load_starting_weights(wiring.compose(["pretrained=hf", f"pretrained.path={tmp_path}"]), ours_of(tmp_path))


def test_torch_files_may_be_sharded(tmp_path: Path):
    model = saved(*CASES["gpt2"], tmp_path)
    (tmp_path / "model.safetensors").unlink()
    places = {name: f"pytorch_model-0000{at % 2 + 1}-of-00002.bin" for at, name in enumerate(model.state_dict())}
    for file in {*places.values()}:
        part = {name: one for name, one in model.state_dict().items() if places[name] == file}
        torch.save(part, tmp_path / file)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    assert far(model, ours(tmp_path)) < 1e-5


def test_the_older_spelling_of_rotary_settings_is_read(tmp_path: Path):
    model = saved(*CASES["llama 3"], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    told = config.pop("rope_parameters")
    config |= {"rope_theta": told.pop("rope_theta"), "rope_scaling": {"type": told.pop("rope_type"), **told}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert far(model, ours(tmp_path)) < 1e-4


def test_a_change_on_the_same_weights_is_asked_for_like_any_other(tmp_path: Path):
    saved(*CASES["gpt2"], tmp_path)
    decoder = ours(tmp_path, "norm.eps=1e-2", "model.context=32", "attention.window=5", "block=parallel")
    assert decoder.position.length == 32
    assert decoder.layers[0].attention.pairs(32) < 32 * 33 // 2


def test_fewer_heads_of_keys_are_the_mean_of_neighbours(tmp_path: Path):
    model = saved(*CASES["llama 1"], tmp_path)
    decoder = ours(tmp_path, "attention.kv_heads=2")
    theirs = model.model.layers[1].self_attn.k_proj.weight.unflatten(0, (2, 3, 8)).mean(1).flatten(0, 1)
    assert decoder.state_dict()["blocks.1.attention.k.weight"].equal(theirs)


# -- a run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 over the characters of the tiny text."""
    from gptlab.corpus.load import read_corpus

    made = tmp_path_factory.mktemp("checkpoint") / "bard"
    vocab = read_corpus(wiring.compose([*TINY])).tokenizer.vocab
    saved("GPT2", {"n_positions": 16, "n_embd": 24, "n_layer": 2, "n_head": 2}, made, vocab)
    return made


def asked(pool: Path, path: Path, *more: str) -> list[str]:
    """A tiny run that starts from a checkpoint, whose sizes are its own."""
    kept = [word for word in TINY if not word.startswith(("model", "batch_size"))]
    return [*kept, f"outputs={pool}", "pretrained=hf", f"pretrained.path={path}", "batch_size=4", *more]


def test_fine_tuning_is_an_ordinary_run(checkpoint: Path, tmp_path: Path):
    folder = finished(*asked(tmp_path, checkpoint))
    assert folder.name.startswith("bard-")
    assert "sha256" in (folder / "config.yaml").read_text()
    (checkpoint / "model.safetensors").rename(checkpoint / "away")
    try:  # a run is whole without the file that it began with
        assert program("-m gptlab", "sample", str(folder), "--length", "5").status == 0
    finally:
        (checkpoint / "away").rename(checkpoint / "model.safetensors")
    assert summary(folder)["params"] == sum(p.numel() for p in ours_of(checkpoint).parameters())


def test_fine_tuning_reads_with_the_checkpoints_own_tokenizer(tmp_path: Path):
    made = tmp_path / "own"
    saved("Llama", {**LLAMA, "max_position_embeddings": 16}, made, 300)
    leveled().save(str(made / "tokenizer.json"))
    words = [f"tokenizer.path={made}", "tokenizer.vocab=300"]
    run = finished(*asked(tmp_path, made, "tokenizer=file", *words))
    shutil.rmtree(made)
    assert program("-m gptlab", "sample", str(run), "--prompt", "the then", "--length", "5").status == 0
    assert "params" in summary(run)


def test_a_run_that_was_stopped_goes_on_without_its_base_and_with_its_files_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    saved("Llama", {**LLAMA, "max_position_embeddings": 16}, Path("own"), 300)
    leveled().save("t.json")
    Path("text.txt").write_bytes((ROOT / "LICENSE").read_bytes())
    words = asked(Path("pool"), Path("own"), "tokenizer=file", "tokenizer.path=t.json")
    words = [word for word in words if not word.startswith("data.path")]
    run = finished(*words, "tokenizer.vocab=300", "data.path=text.txt")
    wanted = numbers(run)
    again = shutil.copytree(run, tmp_path / "again" / "runs" / run.name)

    def stop_early() -> None:
        (again / "summary.json").unlink(missing_ok=True)
        (again / "checkpoints" / "last.ckpt").unlink(missing_ok=True)

    shutil.rmtree("own")
    stop_early()
    monkeypatch.chdir("/")
    assert numbers(finished(f"resume={again}")) == wanted
    shutil.move(tmp_path / "text.txt", tmp_path / "moved.txt")
    shutil.move(tmp_path / "t.json", tmp_path / "moved.json")
    moved = [f"resume={again}", f"data.path={tmp_path}/moved.txt", f"tokenizer.path={tmp_path}/moved.json"]
    stop_early()
    assert numbers(finished(*moved)) == wanted
    stop_early()
    assert "data.path=" in train(*moved[:1], *moved[2:]).err
    (tmp_path / "moved.txt").write_text("another text " * 2000)
    assert "learned from another text (sha256 " in train(*moved).err
    (tmp_path / "moved.txt").write_bytes((ROOT / "LICENSE").read_bytes())
    pieced().save(str(tmp_path / "moved.json"))
    assert "began with another tokenizer; say where that is now: tokenizer.path=<path>" in train(*moved).err


def ours_of(path: Path) -> Decoder:
    """On the meta device."""
    recipe = wiring.compose(["pretrained=hf", f"pretrained.path={path}"])
    from gptlab.training.build import build_on_meta

    return build_on_meta(recipe, json.loads((path / "config.json").read_text())["vocab_size"])


# -- what is refused


def refused(checkpoint: Path, pool: Path, *more: str) -> str:
    """The one line that such a run is refused with."""
    done: Done = train(*asked(pool, checkpoint, *more))
    assert done.status == 2, done.out + done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert not list((pool / "runs").glob("*")) if (pool / "runs").exists() else True
    return done.err


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["model.width=48"], r"does not fit: .*is not \(.*; and \d+ more"),
        (["position=rope"], "position.table.weight, which the decoder has not"),
        (["mlp=swiglu"], "mlp.gate.weight is missing"),
        (["tokenizer=byte"], "tokens, the tokenizer 256; take its own: no tokenizer.json is with it; tokenizer=file"),
        (["model.zzz=32"], "model.zzz: no such key; known: "),
        (["model.context=32"], r"position.table.weight: \(16, 24\) is not \(32, 24\)"),
        (["pretrained.sha256=00"], "holds other weights now"),
        (["pretrained.path=nowhere/at/all"], "pretrained.path=nowhere/at/all is not there"),
    ],
)
def test_what_does_not_fit_is_refused(checkpoint: Path, tmp_path: Path, more: list[str], told: str):
    assert re.search(told, refused(checkpoint, tmp_path, *more))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "mamba"}, "model_type=mamba is not known"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=true cannot be expressed"),
        ({"activation_function": "mish"}, "activation_function=mish"),
    ],
)
def test_what_our_slots_cannot_express_is_named(checkpoint: Path, tmp_path: Path, change: dict, told: str):
    config = json.loads((checkpoint / "config.json").read_text())
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "config.json").write_text(json.dumps({**config, **change}))
    (copy / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    assert told in refused(copy, tmp_path / "out")


QWEN = {"model_type": "qwen2", "num_hidden_layers": 3, "sliding_window": 5}


@pytest.mark.parametrize(
    ("config", "window"),
    [
        ({**QWEN, "max_window_layers": 0}, None),  # use_sliding_window is false unless it is said
        ({**QWEN, "use_sliding_window": True}, None),  # from layer 28 on
        ({**QWEN, "use_sliding_window": True, "max_window_layers": 0}, 5),
        ({**QWEN, "use_sliding_window": True, "layer_types": ["sliding_attention"] * 3}, 5),
        ({**QWEN, "model_type": "mistral", "layer_types": ["full_attention"] * 3}, 5),  # whose code reads no kinds
        ({**QWEN, "model_type": "llama", "use_sliding_window": True}, None),
    ],
)
def test_a_window_is_that_of_transformers(config: dict[str, Any], window: int | None):
    assert not [*families.FAMILIES[config["model_type"]].missing(config)]
    sizes = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    assert families.derive_knobs({**sizes, **config}).get("attention.window") == window


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", "partial_rotary_factor": 0.5},
        {"model_type": "qwen3", "rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        {"model_type": "mistral", "attention_bias": True},
        {"model_type": "qwen2", "mlp_bias": True},
        {"model_type": "qwen2", "num_hidden_layers": 30, "use_sliding_window": True},
    ],
)
def test_what_transformers_would_read_otherwise_is_named(config: dict[str, Any]):
    with pytest.raises(Refused, match="cannot be expressed by our slots"):
        families.derive_knobs({"num_hidden_layers": 3, **config})


def told_of(folder: Path) -> str:
    """The line that a checkpoint is refused with."""
    with pytest.raises(Refused) as caught:
        wiring.compose(["pretrained=hf", f"pretrained.path={folder}"])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ([], "config.json holds no JSON object"),
        ({"n_positions": None}, "pretrained: config.json has no n_positions; fetch it again or mend it"),
        ({"vocab_size": "400"}, "has vocab_size='400', which is no whole number > 0"),
        ({"n_head": 0, "n_layer": 2.5}, "has n_head=0, which is no whole number > 0; n_layer=2.5, which is no whole"),
        ({"activation_function": ["gelu"]}, "has activation_function=['gelu'], which is not a string"),
        ({"layer_norm_epsilon": float("nan")}, "has layer_norm_epsilon=nan, which is not a finite number"),
        ({"model_type": ["gpt2"]}, "model_type=['gpt2'] is not known"),
    ],
)
def test_a_config_of_gpt2_that_lacks_something_is_refused(content: Any, line: str, tmp_path: Path):
    saved(*CASES["gpt2"], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    whole = {**config, **content} if isinstance(content, dict) else content
    (tmp_path / "config.json").write_text(json.dumps(whole))
    assert line in told_of(tmp_path)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"hidden_size": None}, "has no hidden_size"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_type=llama3 without low_freq_factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": "8"}}, "rope_scaling.factor='8', which is not a number"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_type=linear without factor"),
        ({"rope_scaling": {"factor": 8.0}}, "has a rope_scaling without rope_type"),
        ({"rope_scaling": 3}, "has rope_scaling=3, which is not"),
        ({"layer_types": "full"}, "has layer_types='full', which is not a list"),
    ],
)
def test_a_config_of_llama_that_lacks_something_is_refused(content: Any, line: str, tmp_path: Path):
    saved(*CASES["llama 1"], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("rope_parameters", None)
    (tmp_path / "config.json").write_text(json.dumps({**config, **content}))
    assert line in told_of(tmp_path)


def test_older_names_and_nulls_in_a_config_are_read_as_transformers_does(tmp_path: Path):
    model = saved(*CASES["gpt2"], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    others = {"n_ctx": config.pop("n_positions"), "hidden_size": config.pop("n_embd"), "layer_norm_epsilon": None}
    (tmp_path / "config.json").write_text(json.dumps({**config, **others}))
    assert far(model, ours(tmp_path)) < 1e-5


@pytest.mark.parametrize(
    ("index", "line"),
    [
        ("[]", "holds no JSON object; fetch it again"),
        ("{", "cannot be read: Expecting property name"),
        ('{"weight_map": null}', "has no weight_map of tensors to files; fetch it again"),
        ('{"weight_map": {"a": 3}}', "has no weight_map of tensors to files"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "names '../x.safetensors', which is no file of its folder"),
        ('{"weight_map": {"a": "x.safetensors"}}', "names x.safetensors, which is not there; fetch it too"),
    ],
)
def test_an_index_that_names_no_files_is_refused(index: str, line: str, tmp_path: Path):
    saved(*CASES["gpt2"], tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert f"model.safetensors.index.json {line}" in told_of(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda weight: weight.index_fill(0, torch.tensor([1]), torch.nan), "holds NaN or inf"),
        (lambda weight: weight / 0, "holds NaN or inf"),
        (lambda weight: weight.to(torch.int8), "is int8 and no float; give weights that are not quantized"),
        (lambda weight: weight.to(torch.complex64), "is complex64 and no float"),
    ],
)
def test_tensors_that_are_no_weights_are_refused(checkpoint: Path, tmp_path: Path, spoil: Any, told: str):
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "config.json").write_text((checkpoint / "config.json").read_text())
    weights = load_file(checkpoint / "model.safetensors")
    name = next(name for name in weights if name.endswith("0.mlp.c_fc.weight"))
    save_file({**weights, name: spoil(weights[name])}, copy / "model.safetensors")
    line = refused(copy, tmp_path / "out")
    assert f"mlp.c_fc.weight -> blocks.0.mlp.up.weight: it {told}" in line
    assert "is missing" not in line


def test_a_torn_file_and_a_file_with_code_in_it_are_refused(checkpoint: Path, tmp_path: Path):
    whole, copy = (checkpoint / "model.safetensors").read_bytes(), tmp_path
    for name, content in {"model.safetensors": whole[: len(whole) // 2], "pytorch_model.bin": b"no pickle"}.items():
        copy = tmp_path / name
        copy.mkdir()
        (copy / "config.json").write_text((checkpoint / "config.json").read_text())
        (copy / name).write_bytes(content)
        assert "cannot be read" in refused(copy, tmp_path / "out")
    torch.save({"weight": Path("/")}, copy / "pytorch_model.bin")
    assert "more than weights" in refused(copy, tmp_path / "out")
