"""What only a GPU can show: `python -m pytest -m gpu` where there is one."""

from pathlib import Path

import pytest
import torch
from conftest import TIME, VOCAB, recipe, tokens
from tiny_runs import finished, numbers, summary, tiny
from torch import Tensor

from gptlab import compose as wiring
from gptlab.generation.cuda_graph import GraphedTokenStep
from gptlab.generation.generate import generate
from gptlab.model.attention_kernels import force_kernel
from gptlab.model.decoder import Decoder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]
SIZES = ("model.width=192", "model.heads=6", "model.layers=2", "model.context=256")
LONG = 256


def on_gpu(case: str) -> Decoder:
    """The decoder of a case in float32; the heads are 32 wide, as flex wants powers of two."""
    return wiring.build_decoder(recipe(case, SIZES), VOCAB).cuda().train()


def step(made: Decoder) -> tuple[Tensor, list[Tensor]]:
    """The loss of fixed tokens, and the gradient of every parameter."""
    made.zero_grad()
    loss = made(tokens(2, LONG).cuda(), tokens(2, LONG, key="targets").cuda()).loss
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in made.parameters() if p.grad is not None]


@pytest.mark.parametrize("case", ["attention=mha", "attention=gqa", "attention=swa", "position=alibi"])
def test_flex_and_sdpa_learn_alike(case: str):
    made = on_gpu(case)
    with force_kernel("sdpa"):
        wanted = step(made)
    made.compile(fullgraph=True)
    with force_kernel("flex"):
        torch.testing.assert_close(step(made), wanted, atol=2e-3, rtol=2e-3)


def test_a_compiled_bfloat16_step_says_about_what_float32_says():
    made = on_gpu("experiment=gpt2")
    wanted, _ = step(made)
    made.compile()
    with torch.autocast("cuda", torch.bfloat16):
        said, gradients = step(made)
    torch.testing.assert_close(said, wanted, atol=2e-2, rtol=0)
    assert all(g.isfinite().all() for g in gradients)


def test_cached_decoding_says_what_the_whole_says():
    made = on_gpu("attention=swa").eval()
    now = tokens(2, TIME).cuda()
    with torch.no_grad():
        whole, cache = made(now).logits, made.new_cache(2, LONG)
        at = torch.arange(TIME, device="cuda")[None]
        each = [made(now[:, [t]], positions=at[:, [t]], cache=cache).logits for t in range(TIME)]
    torch.testing.assert_close(torch.cat(each, 1), whole, atol=1e-4, rtol=1e-4)


def test_a_run_trains_in_bfloat16_and_repeats_uncompiled(tmp_path: Path):
    runs = [finished(*tiny(tmp_path / name, "trainer=gpu", "compile=off")) for name in "ab"]
    assert summary(runs[0])["precision"] == "bf16-mixed"
    assert numbers(runs[0])["metrics"] == numbers(runs[1])["metrics"]


@pytest.mark.parametrize("compiled", ["off", "on"])
def test_a_run_by_cuda_graphs_says_what_the_eager_run_says(compiled: str, tmp_path: Path):
    more = ("trainer=gpu", "trainer.precision=32-true", f"compile={compiled}", "dropout=0.1", "sample.count=2")
    eager, graphed = (
        [row["train/loss"] for row in numbers(folder)["metrics"] if "train/loss" in row]
        for folder in (
            finished(*tiny(tmp_path / knob, *more, f"trainer.cuda_graph={knob}")) for knob in ("false", "true")
        )
    )
    # the rate is rounded to float32 in a graph, and kernels may add in another order
    assert graphed == pytest.approx(eager, rel=1e-4)


def test_tokens_written_by_a_cuda_graph_are_the_eager_ones():
    made = on_gpu("attention=swa").eval()
    prompt = tokens(2, 5).cuda()
    eager = torch.stack([*generate(made, prompt, LONG)], 1)
    assert torch.equal(torch.stack([*generate(made, prompt, LONG, step=GraphedTokenStep(made))], 1), eager)
