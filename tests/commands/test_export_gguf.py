"""Laws of GGUF files: another reader of the format says the same logits; what it cannot say is named by its knob."""

from pathlib import Path

import pytest
import torch
from tiny_runs import finished, program, tiny

import gptlab
from gptlab import compose as wiring
from gptlab.commands.formats.huggingface import convert_run

pytest.importorskip("gguf", reason="gguf is not installed")
RUNS = {
    "gpt2": ["experiment=gpt2", "model.heads=4"],
    "llama": ["attention=gqa", "model.heads=4", "position.theta=5e4", "readout=untied"],
    "qwen2": ["attention.bias=true", "model.heads=4"],
    "qwen3": ["attention.qk_norm=true", "model.heads=4"],
}

WITH_CONFIG = ("gpt2", "qwen3")
"""Of these the reader of transformers does not read all sizes, such as the width of a head; llama.cpp does."""


@pytest.mark.parametrize("kind", RUNS)
def test_another_reader_says_the_same(kind: str, tmp_path: Path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="transformers reads GGUF with accelerate alone")
    run = finished(*tiny(tmp_path, *RUNS[kind], "steps=3"))
    done = program("-m gptlab", "export", str(run), "--to", "gguf")
    assert done.status == 0, done.err
    file = Path(done.out.splitlines()[-1])
    decoder, _ = gptlab.load(run)
    more = {}
    if kind in WITH_CONFIG:
        config = convert_run(run, wiring.compose)[0]
        more["config"] = transformers.AutoConfig.for_model(**config)
    model = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, **more).eval()
    tokens = torch.randint(0, decoder.shape.vocab, (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, found = decoder(tokens).logits, model(tokens).logits
    assert wanted is not None
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("knobs", "line"),
    [
        (["attention.gate=true"], "cannot say attention.gate=true"),
        (["attention=swa", "attention.window=6"], "GGUF cannot say attention.window=6; export it with --to hf"),
        (["position.scaling=yarn", "position.factor=2"], "--to gguf does not write position.scaling=yarn; export it"),
        # llama.cpp has one activation and one scale an architecture, and would compute with those
        (["experiment=gpt2", "mlp=relu"], "GGUF cannot say an mlp with relu: its gpt2 is mlp=gelu_tanh"),
        (["experiment=gpt2", "mlp=gelu"], "GGUF cannot say an mlp with gelu: its gpt2 is mlp=gelu_tanh"),
        (["experiment=gpt2", "attention.scale=1.0"], "GGUF cannot say attention.scale=1"),
        (["mlp=geglu"], "GGUF cannot say an mlp with gelu: its llama is mlp=swiglu"),
        (
            ["attention.qk_norm=true", "attention.bias=true", "attention.out_bias=true"],
            "cannot say attention.bias=true",
        ),
    ],
)
def test_what_it_cannot_say_is_named(knobs: list[str], line: str, tmp_path: Path):
    run = finished(*tiny(tmp_path, *knobs, "steps=2"))
    done = program("-m gptlab", "export", str(run), "--to", "gguf")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert line in done.err
    assert not (run / "model.gguf").exists()


def test_a_file_that_cannot_be_written_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = finished(*tiny(tmp_path, "steps=2"))
    before = {*run.iterdir()}

    def fill_the_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gguf.GGUFWriter.write_tensors_to_file", fill_the_disk)
    assert program("-m gptlab", "export", str(run), "--to", "gguf").status != 0
    assert {*run.iterdir()} == before
