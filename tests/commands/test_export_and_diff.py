"""Runs that leave, and checkpoints that are looked into: transformers opens what we write and says the same; where it
says something else, the first place is named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import finished, program, tiny

import gptlab
from gptlab import compose as wiring
from gptlab.commands.diff import load_in_transformers
from gptlab.commands.formats.huggingface import export_run
from gptlab.commands.formats.packed import export_packed
from gptlab.errors import Refused
from gptlab.training.build import build_decoder, load_starting_weights

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
RUNS = {
    "gpt2": ["experiment=gpt2"],
    "gpt2, untied": ["experiment=gpt2", "readout=untied", "mlp=gelu", "vocab_multiple=1"],
    "llama": ["attention=gqa", "position.theta=5e4"],
    "llama yarn": ["readout=untied", "position.scaling=yarn", "position.factor=2", "bias=true", "norm.eps=1e-5"],
    "mistral": ["attention=swa", "attention.window=6"],
    "qwen2": ["attention.bias=true"],
    "qwen3": ["attention.qk_norm=true", "model.head=10"],
}


@pytest.fixture(scope="module", params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(*tiny(tmp_path_factory.mktemp("run"), *RUNS[request.param], "steps=3"))


@pytest.mark.few(4)
def test_transformers_opens_a_run_and_it_comes_back_exactly(run: Path):
    done = program("-m gptlab", "export", str(run), "--to", "hf")
    assert done.status == 0, done.err
    folder = Path(done.out.splitlines()[-1])
    decoder, _ = gptlab.load(run)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokens = torch.randint(0, decoder.shape.vocab, (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, found = decoder(tokens).logits, model(tokens).logits
    assert wanted is not None
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()
    recipe = wiring.compose(["pretrained=hf", f"pretrained.path={folder}"])
    again = build_decoder(recipe, decoder.shape.vocab)
    load_starting_weights(recipe, again)
    state = again.state_dict()
    assert all(one.equal(state[name]) for name, one in decoder.state_dict().items())


def test_our_own_names_hold_every_weight(tmp_path: Path):
    run = finished(*tiny(tmp_path, "attention.gate=true", "steps=3"))
    folder = Path(program("-m gptlab", "export", str(run), "--to", "safetensors").out.splitlines()[-1])
    kept, state = load_file(folder / "model.safetensors"), gptlab.load(run)[0].state_dict()
    assert kept.keys() == state.keys()
    assert all(kept[name].equal(one) for name, one in state.items())
    refused = program("-m gptlab", "export", str(run), "--to", "hf")
    assert refused.status == 2
    assert "cannot say attention.gate=true" in refused.err
    assert not (run / "hf").exists()
    again = program("-m gptlab", "export", str(run), "--to", "safetensors")
    assert (again.status, "is there already" in again.err) == (2, True)


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = finished(*tiny(tmp_path, "steps=3"))
    before = {*run.iterdir()}

    def fill_the_disk(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fill_the_disk)
    monkeypatch.setattr("torch.save", fill_the_disk)
    for layout in ("hf", "safetensors"):
        with pytest.raises(OSError, match="No space left"):
            export_run(run, layout, run / layout, wiring.compose)
    with pytest.raises(OSError, match="No space left"):
        export_packed(run, "int8", run / "int8", wiring.compose)
    assert {*run.iterdir()} == before


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("knobs", "line"),
    [
        (["attention.bias=true", "mlp.bias=true"], "qwen2 of transformers cannot say mlp_bias=true"),
        (["attention=swa", "attention.window=6", "attention.bias=true"], "cannot say attention"),
        (["attention=swa", "attention.window=6", "mlp.bias=true"], "mistral of transformers cannot say mlp_bias=true"),
        (["attention.qk_norm=true", "mlp.bias=true"], "qwen3 of transformers cannot say mlp_bias=true"),
        (["attention=gated_deltanet"], "llama of transformers cannot say attention=gated_deltanet; export it"),
        (["residual=hyper", "attention=hybrid"], "cannot say attention=hybrid, residual=hyper; export it"),
        (["experiment=gpt2", "model.heads=4", "model.head=8"], "gpt2 of transformers cannot say model.head=8"),
    ],
)
def test_what_transformers_would_pass_over_is_not_exported(knobs: list[str], line: str, tmp_path: Path):
    run = finished(*tiny(tmp_path, *knobs, "steps=2"))
    done = program("-m gptlab", "export", str(run), "--to", "hf")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert line in done.err
    assert not (run / "hf").exists()


def test_a_folder_that_is_no_run_is_not_exported(tmp_path: Path):
    for how in (["--to", "hf"], ["--to", "safetensors"], ["--format", "int8"]):
        done = program("-m gptlab", "export", str(tmp_path), *how)
        assert (done.status, "is no run folder; see `python -m gptlab runs`" in done.err) == (2, True), done.err


def test_a_run_folder_as_a_checkpoint_is_sent_to_export(tmp_path: Path):
    (tmp_path / "run.json").write_text("{}")
    for kind in ("hf", "mapped"):
        with pytest.raises(Refused, match=r"is a run of gptlab; python -m gptlab export .* --to hf"):
            wiring.compose([f"pretrained={kind}", f"pretrained.path={tmp_path}"])


def test_a_checkpoint_whose_tensors_transformers_would_draw_is_no_reference(tmp_path: Path):
    sizes: dict[str, Any] = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "vocab_size": 97}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, num_attention_heads=4))
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    # as trainers save it; we read it, transformers does not
    torch.save({"state_dict": model.state_dict()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(Refused, match=r"transformers finds no lm_head.weight in .*, nor \d+ others of its tensors"):
        load_in_transformers(tmp_path)


@pytest.mark.parametrize(
    ("more", "status", "told"),
    [
        ([], 0, "no place differs"),
        (["mlp.activation=gelu"], 1, "the first that differs: block 0, mlp"),
        (["position.fraction=0.5"], 1, "the first that differs: block 0, attention"),
    ],
)
def test_the_first_place_that_differs_is_named(tmp_path: Path, more: list[str], status: int, told: str):
    sizes: dict[str, Any] = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "vocab_size": 97}
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**sizes, num_attention_heads=4, initializer_range=0.2)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    done = program("-m gptlab", "diff", str(tmp_path), *more)
    assert (done.status, done.out.splitlines()[-1].startswith(told)) == (status, True), done.out + done.err
