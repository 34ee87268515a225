"""Devices and numerics: processes that share a batch, precisions, peaks, compiling, rows that pad the vocabulary."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CASES, VOCAB, recipe, tokens
from test_resume import signalled
from tiny_runs import Done, ended, finished, numbers, rows, start, summary, tiny, train

import gptlab
from gptlab import compose as wiring
from gptlab.generation.generate import generate
from gptlab.model import compile_policy as compiling
from gptlab.training.cost.peak_flops import PEAKS, find_peak_flops

# -- processes

DDP = ("trainer=ddp", "trainer.devices=2", "accumulate=2", "sample.count=2", "evaluation.every=10", "steps=60")
several = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="takes two cores")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A run of two processes, with W&B's mirror."""
    overrides = tiny(tmp_path_factory.mktemp("shared"), *DDP, "tracking=offline")
    return ended(
        start(*overrides, warnings=("ignore::ResourceWarning",))
    )  # W&B leaves a folder to be cleaned up at exit


@pytest.mark.thorough
@several
def test_two_processes_compute_what_one_does(shared: Done, tmp_path: Path):
    assert (shared.status, shared.err) == (0, "")
    alone = numbers(finished(*tiny(tmp_path, *DDP[2:])))
    together = numbers(shared.folder)
    assert len(together["metrics"]) == len(alone["metrics"])
    for one, other in zip(together["metrics"], alone["metrics"], strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert [row["text"] for row in together["samples"]] == [row["text"] for row in alone["samples"]]
    assert together["summary"]["val/loss"] == pytest.approx(alone["summary"]["val/loss"], abs=1e-5)
    assert together["summary"]["processes"] == 2


@pytest.mark.thorough
@several
def test_only_the_first_process_speaks_and_writes(shared: Done):
    assert shared.out.count("decoder") == 1
    assert "2 processes, each on cpu, 1 thread" in shared.out
    assert [folder.name for folder in shared.folder.parent.iterdir()] == [shared.folder.name]
    assert len(list((shared.folder.parents[1] / "wandb").glob("offline-run-*"))) == 1
    steps = [row["step"] for row in rows(shared.folder / "metrics.jsonl") if "train/loss" in row]
    assert steps == list(range(5, 61, 5))


@several
@pytest.mark.slow
def test_two_processes_stop_together_and_resume_to_the_same_end(shared: Done, tmp_path: Path):
    process = start(*tiny(tmp_path, *DDP))
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("runs/*/metrics.jsonl")):
        assert process.poll() is None, ended(process)
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)  # to the first alone
    done = ended(process)
    assert done.status == 143
    assert done.err.startswith("stopped by SIGTERM after step ")
    again = ended(start(f"resume={done.folder}"))
    assert (again.status, again.err) == (0, "")
    found, whole = numbers(done.folder), numbers(shared.folder)
    assert (found["metrics"], found["samples"]) == (whole["metrics"], whole["samples"])


@several
@pytest.mark.slow
def test_a_run_goes_on_in_two_processes_and_in_one_again(tmp_path: Path):
    words = ["steps=600", "evaluation.every=200", "sample.count=2", "save_every=50"]
    alone = numbers(finished(*tiny(tmp_path / "alone", *words)))

    def stop_after(step: int, *overrides: str) -> Done:
        process = start(*overrides)
        deadline = time.monotonic() + 100
        while not any(row["step"] > step for file in tmp_path.glob("cut/runs/*/metrics.jsonl") for row in rows(file)):
            assert process.poll() is None, ended(process)
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        done = ended(process)
        assert done.status == 143, done.err
        return done

    run = stop_after(20, *tiny(tmp_path / "cut", *words)).folder
    several = stop_after(300, f"resume={run}", "trainer=ddp", "trainer.devices=2")
    assert "begun in 1, goes on in 2 processes: the same losses up to rounding" in several.out
    last = train(f"resume={run}")
    assert (last.status, "goes on in" in last.out) == (0, False)
    cut = numbers(run)
    assert [row["text"] for row in cut["samples"]] == [row["text"] for row in alone["samples"]]
    for row, expected in zip(cut["metrics"], alone["metrics"], strict=True):
        assert row == pytest.approx(expected, abs=1e-4)


@several
@pytest.mark.slow
def test_two_processes_diverge_in_one_line(tmp_path: Path):
    done = ended(start(*tiny(tmp_path, *DDP, "optimizer.lr=1e38", "schedule.warmup=0")))
    assert done.status == 1
    assert done.err == "error: diverged at step 2: the gradient of embedding.weight is not finite\n"


@several
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the second process in /proc")
def test_the_second_process_ends_soon_after_the_first_was_killed(tmp_path: Path):
    process = start(*tiny(tmp_path, *DDP, "steps=100000", "compile=off"))
    deadline = time.monotonic() + 100
    while not any(file.stat().st_size for file in tmp_path.glob("runs/*/metrics.jsonl")):
        assert process.poll() is None, ended(process)
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (child,) = find_children(process.pid)
    process.send_signal(signal.SIGKILL)
    # asleep in a collective, whose other side is gone
    while find_state(child) not in ("", "Z"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ended(process)


def find_children(parent: int) -> list[int]:
    """The processes that one has started, by their numbers."""
    files = Path("/proc").glob("[0-9]*/stat")
    fields = {int(file.parent.name): file.read_text().rpartition(")")[2].split() for file in files}
    return [number for number, (_, started_by, *_) in fields.items() if int(started_by) == parent]


def find_state(number: int) -> str:
    """The state of a process, as S for asleep and Z for ended; empty where there is none any more."""
    file = Path(f"/proc/{number}/stat")
    try:
        return file.read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


# -- precision


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # a norm of bfloat16 has float32 weights
@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("init=")])
def test_under_bfloat16_the_loss_is_float32_and_near(case: str):
    decoder, given = wiring.build_decoder(recipe(case), VOCAB).eval(), tokens(2, 9)
    exact = decoder(given, given).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = decoder(given, given).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(p.grad is None or p.grad.isfinite().all() for p in decoder.parameters())


def test_a_run_in_bfloat16_is_near_and_says_so(tmp_path: Path):
    low, high = (summary(finished(*tiny(tmp_path, f"trainer.precision={one}"))) for one in ("bf16-mixed", "32-true"))
    assert (low["precision"], high["precision"]) == ("bf16-mixed", "32-true")
    assert low["val/loss"] != high["val/loss"]
    assert low["val/loss"] == pytest.approx(high["val/loss"], rel=0.02)


# -- peaks


def test_a_gpu_has_the_peak_of_its_data_sheet_or_none():
    assert find_peak_flops("NVIDIA H100 80GB HBM3", "bf16-mixed") == pytest.approx(989.4e12)
    assert find_peak_flops("NVIDIA A100-SXM4-40GB", "tf32") == pytest.approx(156e12)
    assert find_peak_flops("Tesla T4", "32-true") == pytest.approx(8.1e12)
    for name in ("Tesla T4 x", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA H100"):
        assert find_peak_flops(name, "32-true") is None
    assert find_peak_flops("Tesla T4", "bf16-mixed") is None


def test_narrower_numbers_have_no_lower_peak():
    for narrow, middle, wide in PEAKS.values():
        assert (narrow is None) == (middle is None)
        assert wide <= (middle or wide) <= (narrow or wide)


def test_a_known_peak_puts_the_used_part_of_it_in_rows_and_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gptlab.training.setup.TrainingSetup.peak_tokens_per_s", 1e6)
    folder = finished(*tiny(tmp_path))
    found = summary(folder)
    assert found["throughput/mfu"] == pytest.approx(found["throughput/tokens_per_s"] / 1e6)
    logged = [row for row in rows(folder / "metrics.jsonl") if "train/loss" in row]
    assert all(row["throughput/mfu"] == pytest.approx(row["throughput/tokens_per_s"] / 1e6) for row in logged)


def test_a_cpu_has_no_peak(tmp_path: Path):
    assert "throughput/mfu" not in summary(finished(*tiny(tmp_path)))


# -- compiling


def test_a_compiled_decoder_keeps_its_keys():
    decoder = wiring.build_decoder(recipe(), VOCAB)
    keys = list(decoder.state_dict())
    decoder.compile(backend="eager")
    decoder(tokens(2, 9), tokens(2, 9))
    assert list(decoder.state_dict()) == keys
    assert [name for name, _ in decoder.named_parameters(remove_duplicate=False)] == keys


@pytest.mark.parametrize(
    ("wanted", "device", "seconds", "first", "later"),
    [
        ("auto", "cpu", 1e9, False, True),
        ("auto", "cpu", compiling.MIN_SECONDS_TO_COMPILE, False, False),
        ("off", "cpu", 1e9, False, False),
        ("on", "cpu", 0, True, False),
        ("auto", "cuda", 0, True, False),
        ("off", "cuda", 1e9, False, False),
    ],
)
def test_compiling_waits_for_runs_that_pay_for_it(
    wanted: Any, device: str, seconds: float, first: bool, later: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(compiling, "find_missing_dependency", lambda device: None)
    assert compiling.should_compile_at_start(wanted, device) == first
    assert compiling.should_compile_long_run(wanted, device, seconds) == later


def test_without_a_compiler_auto_compiles_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "g+++")
    assert compiling.find_missing_dependency("cpu") == "the C++ compiler g+++"
    assert not compiling.should_compile_at_start("auto", "cpu")
    assert not compiling.should_compile_long_run("auto", "cpu", 1e9)


def test_a_long_run_is_compiled_and_resumed_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    compiled = []
    monkeypatch.setattr("gptlab.model.decoder.Decoder.compile", lambda decoder: compiled.append(decoder))
    with monkeypatch.context() as patch:
        patch.setattr(compiling, "MIN_SECONDS_TO_COMPILE", 0.0)
        signalled(patch, 3)
        folder = train(*tiny(tmp_path)).folder
    assert len(compiled) == 1
    assert train(f"resume={folder}").status == 0
    assert len(compiled) == 2
    assert summary(folder)["compiled"]


# -- rows that pad the vocabulary


def test_rows_of_the_vocabulary_are_rounded_up_and_never_written(tmp_path: Path):
    folder = finished(*tiny(tmp_path, "vocab_multiple=64", "sample.count=2", "sample.temperature=5"))
    decoder, tokenizer = gptlab.load(folder)
    assert tokenizer.vocab < 64
    assert decoder.embedding.weight.shape[0] == decoder.readout(torch.zeros(1, 1, 16)).shape[-1] == 64
    with torch.no_grad():
        decoder.embedding.weight[tokenizer.vocab :] = 9.0  # the head's too
    drawn = torch.stack(list(generate(decoder, torch.zeros(50, 1, dtype=torch.long), 8, temperature=5.0)))
    assert drawn.max() < tokenizer.vocab
    assert summary(folder)["params"] == sum(p.numel() for p in decoder.parameters())
