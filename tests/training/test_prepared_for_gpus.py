"""Laws of several devices and of GPUs that need neither: who started the processes, which kernel, what is saved."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from tiny_runs import finished, numbers, tiny

from gptlab.ablation.worker import run_program
from gptlab.model import attention_kernels
from gptlab.model.attention_kernels import choose_kernel
from gptlab.runs.checkpoint import CheckpointWriter, find_newest_checkpoint, keep_checkpoints, load_checkpoint
from gptlab.training.run_callbacks.checkpoints import Checkpoints
from gptlab.training.state import RunState, StepTimer
from gptlab.training.task import Diverged, Task
from gptlab.training.trainer import lightning
from gptlab.training.trainer.lightning import Lightning

# -- Slurm


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets a job's variables, on a machine of eight cores."""
    monkeypatch.setattr(lightning.os, "cpu_count", lambda: 8)
    monkeypatch.delenv("WORLD_SIZE", raising=False)

    def start(tasks: int, name: str = "train.sbatch") -> None:
        monkeypatch.setenv("SLURM_NTASKS", str(tasks))
        monkeypatch.setenv("SLURM_JOB_NAME", name)

    return start


def test_fewer_tasks_than_devices_are_refused_and_not_trained_on(slurm: Any):
    slurm(tasks=1)
    with pytest.raises(ValueError, match=r"devices=8 x nodes=1 is not SLURM_NTASKS=1, .* --ntasks-per-node=8"):
        Lightning(accelerator="cpu", strategy="ddp", devices=8)
    slurm(tasks=8)
    Lightning(accelerator="cpu", strategy="ddp", devices=8)
    Lightning(accelerator="cpu", strategy="ddp", devices=4, nodes=2)


@pytest.mark.parametrize("name", ["bash", "interactive"])
def test_an_interactive_job_starts_its_processes_itself(slurm: Any, name: str):
    slurm(tasks=1, name=name)
    Lightning(accelerator="cpu", strategy="ddp", devices=8)


def test_torchrun_inside_a_job_counts_its_own_processes(slurm: Any, monkeypatch: pytest.MonkeyPatch):
    slurm(tasks=1)
    monkeypatch.setenv("WORLD_SIZE", "8")
    Lightning(accelerator="cpu", strategy="ddp", devices=8)


def test_one_process_is_one_process_whatever_the_job_is(slurm: Any):
    slurm(tasks=8)
    Lightning(accelerator="cpu", strategy="single")


def test_a_cell_of_several_devices_is_no_task_of_the_job_that_holds_it(slurm: Any, monkeypatch: pytest.MonkeyPatch):
    slurm(tasks=1)
    monkeypatch.setenv("PMI_RANK", "0")
    show = "import json, os; print(json.dumps(sorted(os.environ)))"
    status, printed, errors = run_program([sys.executable, "-c", show])
    assert (status, errors) == (0, "")
    assert not [name for name in json.loads(printed) if name.startswith(("SLURM_", "PMI_"))]


def test_a_signal_to_a_cell_reaches_the_program_that_it_started(tmp_path: Path):
    told = tmp_path / "told"
    child = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(told)!r}).write_text('yes'), sys.exit(0)))\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch(); time.sleep(60)"
    )
    cell = (
        "import signal, sys\n"
        "from gptlab.ablation.pool import raise_exit\nfrom gptlab.ablation.worker import run_program\n"
        f"signal.signal(signal.SIGTERM, raise_exit); run_program([sys.executable, '-c', {child!r}])"
    )
    process = subprocess.Popen([sys.executable, "-c", cell], env=os.environ)
    until = time.monotonic() + 60
    while not (tmp_path / "ready").exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert told.read_text() == "yes"


# -- kernels


@pytest.mark.parametrize(
    ("length", "width", "value_width", "kernel"),
    [(128, 16, 16, "flex"), (128, 8, 16, "sdpa"), (128, 16, 8, "sdpa"), (127, 16, 16, "sdpa")],
)
def test_flex_is_chosen_for_heads_and_lengths_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, length: int, width: int, value_width: int, kernel: str
):
    monkeypatch.setattr(attention_kernels.torch.compiler, "is_compiling", lambda: True)
    query: Any = SimpleNamespace(is_cuda=True, shape=(1, 2, length, width))
    windowed: Any = SimpleNamespace(causal=False)
    options: Any = {"bias": None, "sink": None, "softcap": None, "dropout": 0.0}
    assert choose_kernel(query, value_width, windowed, **options) == kernel
    plain: Any = SimpleNamespace(causal=True)
    assert choose_kernel(query, value_width, plain, **options) == "sdpa"
    assert choose_kernel(query, value_width, plain, **{**options, "sink": torch.zeros(2)}) == kernel


# -- what is saved and read


def test_a_loss_that_is_no_number_is_never_saved_as_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    task: Any = Task.__new__(Task)
    torch.nn.Module.__init__(task)
    task.sums = {"train/loss": torch.tensor(float("nan")), "train/gradient_norm": torch.tensor(1.0)}
    monkeypatch.setattr(Task, "global_step", 7)
    context: Any = SimpleNamespace(
        settings=SimpleNamespace(save_every=7), processes=SimpleNamespace(all_reduce_mean=lambda named: named)
    )
    state = RunState(step=7)
    trainer: Any = SimpleNamespace(should_stop=False)  # has nothing to save with
    with pytest.raises(Diverged, match=r"step 7: train/loss is not finite"):
        Checkpoints(context, CheckpointWriter(tmp_path), state, StepTimer(state)).on_step_end(trainer, task)


@pytest.mark.parametrize(
    ("keep", "found", "kept"),
    [
        ("all", ["best", "last", "previous"], ["best", "last", "previous"]),
        ("best", ["best", "last", "previous"], ["best"]),
        ("best", ["last", "previous"], ["last"]),  # no evaluation made one
        ("last", ["best", "last", "previous"], ["last"]),
        ("none", ["best", "last", "previous"], []),
    ],
)
def test_a_run_that_is_over_keeps_what_it_is_told_to(tmp_path: Path, keep: str, found: list[str], kept: list[str]):
    for name in found:
        (tmp_path / f"{name}.ckpt").touch()
    keep_checkpoints(tmp_path, keep)
    assert sorted(path.stem for path in tmp_path.iterdir()) == kept


def test_minutes_make_a_checkpoint_due_before_steps_do(tmp_path: Path):
    folder = finished(*tiny(tmp_path, "steps=4", "save_every=100", "save_minutes=1e-9"))
    steps = [load_checkpoint(folder / "checkpoints" / f"{name}.ckpt")["global_step"] for name in ("previous", "last")]
    assert steps == [3, 4]


def test_checkpoints_are_mapped_and_a_torn_one_is_passed_over(tmp_path: Path):
    content = {"state_dict": {"decoder.weight": torch.arange(6.0)}, "global_step": 3}
    torch.save(content, tmp_path / "previous.ckpt")
    torch.save(content, tmp_path / "last.ckpt")
    mapped = load_checkpoint(tmp_path / "last.ckpt")
    weight = mapped["state_dict"]["decoder.weight"]
    (tmp_path / "last.ckpt").unlink()  # a newer one takes its place while it is read
    assert torch.equal(weight, torch.arange(6.0))
    (tmp_path / "last.ckpt").write_bytes((tmp_path / "previous.ckpt").read_bytes()[:200])
    path, skipped = find_newest_checkpoint(tmp_path)
    assert path == tmp_path / "previous.ckpt"
    assert len(skipped) == 1


# -- Lightning


def test_lightning_does_not_ask_all_processes_for_signals_at_every_micro_batch():
    assert callable(_TrainingEpochLoop._broadcast_sigterm_tensor)  # a private name, of the pinned lightning
    trainer = Lightning(accelerator="cpu")(max_steps=1)
    assert "_broadcast_sigterm_tensor" in vars(trainer.fit_loop.epoch_loop)


def test_deterministic_is_said_to_torch_and_changes_nothing_on_one_core(tmp_path: Path):
    try:
        plain = numbers(finished(*tiny(tmp_path / "a", "steps=8")))
        assert not torch.are_deterministic_algorithms_enabled()
        strict = numbers(finished(*tiny(tmp_path / "b", "steps=8", "trainer.deterministic=true")))
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert strict["metrics"] == plain["metrics"]
