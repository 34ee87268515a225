"""The benchmark for a GPU runs as far as a CPU can tell, and refuses in one line where there is no GPU."""

import importlib
import runpy
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
import torch
from tiny_runs import ROOT, TINY

SIZES = [word for word in TINY if word.startswith(("model", "batch", "data"))]


@pytest.fixture(scope="module")
def gpu() -> dict[str, Any]:
    """The benchmark's functions, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))  # where python benchmarks/gpu.py looks first
        program = runpy.run_path(str(ROOT / "benchmarks" / "gpu.py"), run_name="gpu")
        parts = [importlib.import_module(f"gpu_sections.{name}") for name in ("arms", "bench", "steps", "programs")]
    return {name: value for part in parts for name, value in vars(part).items()} | program


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line():
    done = subprocess.run([sys.executable, "benchmarks/gpu.py"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "error: torch sees no GPU here, and nothing was measured; run benchmarks/gpu.py where there is one"
    ]


def test_a_section_that_is_none_is_refused(gpu: dict[str, Any]):
    with pytest.raises(
        SystemExit, match="error: nope is no section; choose from tests, speed, syncs, graph, cells, se"
    ):
        gpu["main"](["speed", "nope"])


def test_its_sections_measure_steps_and_attentions(gpu: dict[str, Any]):
    bench = gpu["make_bench"](*SIZES)
    speed = gpu["describe_speed"](bench, gpu["time_steps"](bench, 2))
    assert speed["tokens_per_s"] == pytest.approx(8 * 16 / speed["ms"] * 1000)
    attentions = gpu["measure_arms"]({"swa": partial(gpu["measure_recipe"], *SIZES, "attention=swa", steps=2)})
    document = {"device": "x", "torch": "y", "sections": {"attentions": attentions}}
    assert "| attentions | swa | " in gpu["format_table"](document)


@pytest.mark.slow  # two programs of their own
def test_a_short_run_says_its_step_and_its_samples(gpu: dict[str, Any]):
    said = gpu["time_run"](*SIZES, "steps=20", "trainer=cpu")
    assert said["ms"] > 0 < said["samples_s"]
    assert f"samples {said['samples_s']:.2f} s" in gpu["format_value"](said)
    with pytest.raises(RuntimeError, match=r"error: trainer.cuda_graph=true is for one process on a GPU"):
        gpu["time_run"](*SIZES, "trainer=cpu", "trainer.cuda_graph=true")


def test_an_arm_that_fails_or_comes_too_late_is_a_line(gpu: dict[str, Any]):
    def fail() -> dict[str, Any]:
        raise RuntimeError("planted")

    assert gpu["measure_arms"]({"a": fail}) == {"a": {"failed": "RuntimeError: planted"}}
    assert gpu["format_value"]({"failed": "RuntimeError: planted"}) == "failed: RuntimeError: planted"
    gpu["OPTIONS"]["minutes"] = "0"
    assert gpu["measure_arms"]({"a": fail}) == {"a": "the time was up"}
    gpu["OPTIONS"].clear()


def test_a_section_that_fails_is_a_line(gpu: dict[str, Any]):
    def fail() -> dict[str, Any]:
        raise RuntimeError("planted\nmore")

    assert gpu["run_section"](fail) == {"failed": "RuntimeError: planted"}
