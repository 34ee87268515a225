"""A training step and a decoded token on buffers that stay say what they say without, all but CUDA's own capture.

The capture's stand-in records operators, and repeats them on the same memory: see recorded_ops.py.
"""

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import VOCAB, choices, composed, recipe, tokens
from recorded_ops import OpRecorder, capture_by_recording
from tiny_runs import finished, numbers, tiny

from gptlab import compose as wiring
from gptlab.config.factory import factory
from gptlab.config.recipe import Recipe
from gptlab.generation.cuda_graph import GraphedTokenStep
from gptlab.generation.generate import generate
from gptlab.runs.checkpoint import load_checkpoint
from gptlab.training import setup
from gptlab.training.build import build_on_meta
from gptlab.training.callback.ema import Ema
from gptlab.training.callback.gradient_norms import GradientNorms
from gptlab.training.cuda_graph.check import refuse_gradient_hooks, refuse_uncapturable
from gptlab.training.cuda_graph.graphed_task import GraphedTask
from gptlab.training.optimizer.adamw import AdamW
from gptlab.training.task import Task


@pytest.fixture
def graphed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs of this process train by a graph, whose capture is the recorder's; each capture is noted here."""
    captures: list[str] = []

    def capture(body: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        captures.append("step")
        return capture_by_recording(body)

    monkeypatch.setattr(GraphedTask, "capture", staticmethod(capture))
    monkeypatch.setattr(setup, "Task", GraphedTask)
    return captures


# a rate that float32 holds as it is: what the kernel reads from a tensor is then the same number
EXACT = ("schedule=constant", "optimizer.lr=0.001953125", "steps=16")


@pytest.mark.parametrize("more", [(), ("dropout=0.2", "clip=0.05"), ("readout=mtp", "residual=stochastic_depth")])
def test_a_graphed_run_is_the_eager_run_bit_for_bit(
    more: tuple[str, ...], tmp_path: Path, request: pytest.FixtureRequest
):
    eager = finished(*tiny(tmp_path / "eager", *EXACT, *more))
    captures = request.getfixturevalue("graphed")
    graphed = finished(*tiny(tmp_path / "graphed", *EXACT, *more))
    assert captures == ["step"]
    assert numbers(graphed) == numbers(eager)
    # numbers stand in its checkpoints, so that a run goes on with a graph or without
    saved = [load_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (graphed, eager)]
    groups = [checkpoint["optimizer_states"][0]["param_groups"] for checkpoint in saved]
    assert groups[0] == groups[1]
    assert all(type(group["step"]) is int and type(group["lr"]) is float for group in groups[0])


def read_losses(folder: Path) -> list[float]:
    """The training losses of a run's log."""
    return [row["train/loss"] for row in numbers(folder)["metrics"] if "train/loss" in row]


def test_a_graph_follows_the_schedule(tmp_path: Path, graphed: list[str], monkeypatch: pytest.MonkeyPatch):
    followed = read_losses(finished(*tiny(tmp_path / "graphed")))
    with monkeypatch.context() as patch:
        # a control: numbers in the groups stay those of the step that was recorded
        patch.setattr(GraphedTask, "_tensors_in_groups", lambda self: nullcontext())
        unmoved = read_losses(finished(*tiny(tmp_path / "numbers")))
    monkeypatch.setattr(setup, "Task", Task)
    eager = read_losses(finished(*tiny(tmp_path / "eager")))
    # a rate is rounded to float32, 6e-8 of it
    assert followed == pytest.approx(eager, rel=1e-6)
    assert unmoved != pytest.approx(eager, rel=1e-4)


ATTENTIONS = ["mha", "gqa", "swa", "mla", "differential", "linear", "gla", "gated_deltanet", "rwkv7", "talking_heads"]


@pytest.mark.few(3)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_graphed_token_is_the_eager_token(attention: str):
    decoder = wiring.build_decoder(recipe(f"attention={attention}"), VOCAB).eval()
    captures: list[str] = []

    def capture(body: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        captures.append("token")
        return capture_by_recording(body)

    prompt, length = tokens(2, 5), decoder.shape.context + 6
    eager = torch.stack([*generate(decoder, prompt, length)], 1)
    step = GraphedTokenStep(decoder, capture)
    assert torch.equal(torch.stack([*generate(decoder, prompt, length, step=step)], 1), eager)
    # a text that was cropped has other caches, and so another graph
    assert len(captures) > 1


SLOTS = ("attention", "position", "mlp", "norm", "residual")
# mixtures are refused as they are: on GPUs some of their kernels wait, and on a CPU none of these runs
SCANNED = [(slot, name) for slot in SLOTS for name in choices(slot) if not name.startswith("moe")]


@pytest.mark.parametrize(("slot", "name"), SCANNED)
def test_no_part_but_mixtures_waits_or_copies_numbers(slot: str, name: str):
    made = recipe(f"{slot}={name}")
    decoder = wiring.build_decoder(made, VOCAB).train()
    rows = [tokens(2, decoder.shape.context, key=key) for key in ("inputs", "targets")]
    with OpRecorder() as recorder:
        output = decoder(*rows)
        (output.loss + sum(output.losses.values())).backward()
    # a tensor of Python's numbers, which would be copied
    assert not [func for func, *_ in recorder.calls if str(func).startswith("aten.lift_fresh")]
    refuse_uncapturable(made, decoder, AdamW)


def test_what_waits_for_the_device_is_not_recorded():
    with pytest.raises(RuntimeError, match="waits for the device"), OpRecorder():
        torch.ones(3).sum().item()


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ("optimizer=lion", "trainer.cuda_graph=true knows optimizer=adamw, not lion"),
        ("mlp=moe", "does not go with a part that acts between steps (MixtureMlp)"),
        ("attention.qk_clip=100", "does not go with a part that acts between steps (SoftmaxAttention)"),
        ("change=[quantize]", "does not go with a part that acts between steps (Quantizer)"),
        ("accumulate=2", "does not go with accumulate=2"),
        ("shuffle_targets=true", "does not go with shuffle_targets=true"),
        (
            "data=text data.path=LICENSE data.documents=newline data.mask_documents=true",
            "does not go with data.mask_documents=true",
        ),
    ],
)
def test_a_step_that_is_no_graph_is_refused(overrides: str, line: str):
    made = composed("model=nano", *overrides.split())
    optimizer = factory(made.config["optimizer"], "optimizer").target
    with pytest.raises(ValueError, match=re.escape(line)) as refusal:
        refuse_uncapturable(made, build_on_meta(made, VOCAB), optimizer)
    assert str(refusal.value).endswith("say trainer.cuda_graph=false")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("strategy", ["single", "ddp"])
def test_a_cpu_has_no_cuda_graph(strategy: str):
    lines = wiring.check_recipe(composed("trainer.cuda_graph=true", f"trainer.strategy={strategy}"))
    assert lines == ["trainer.cuda_graph=true is for one process on a GPU (trainer=gpu); say trainer.cuda_graph=false"]


def test_a_callback_that_looks_at_gradients_is_refused():
    with pytest.raises(ValueError, match="looks at gradients within the step"):
        refuse_gradient_hooks("gradient_norms", GradientNorms)
    refuse_gradient_hooks("ema", Ema)


def test_the_hash_of_older_runs_stays():
    made = composed()
    trainer = {key: value for key, value in made.config["trainer"].items() if key != "cuda_graph"}
    assert Recipe({**made.config, "trainer": trainer}).hash == made.hash
    assert composed("trainer.cuda_graph=true").hash != made.hash
