"""Checkpoints are written beside training: they hold the step at which they were saved, and the end waits for them."""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import finished, numbers, tiny, train

from gptlab.runs import checkpoint
from gptlab.training.task import Task


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose checkpoints are written as fast as they can be."""
    return finished(*tiny(tmp_path_factory.mktemp("plain")))


def test_training_goes_on_while_a_checkpoint_is_written_and_the_end_waits(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    three_steps_later, steps = threading.Condition(), [0]
    true_write, true_step = checkpoint.write_checkpoint, Task.optimizer_step
    waited: list[bool] = []

    def write_late(content: dict[str, Any], folder: Path, name: str) -> None:
        if name == "last" and content["global_step"] < 35:
            with three_steps_later:
                waited.append(three_steps_later.wait_for(lambda: steps[0] >= content["global_step"] + 3, timeout=60))
        true_write(content, folder, name)

    def count_step(self: Task, *args: Any, **more: Any) -> None:
        true_step(self, *args, **more)
        with three_steps_later:
            steps[0] += 1
            three_steps_later.notify_all()

    monkeypatch.setattr(checkpoint, "write_checkpoint", write_late)
    monkeypatch.setattr(Task, "optimizer_step", count_step)
    folder = finished(*tiny(tmp_path))
    assert waited == [True] * 4  # of steps 7, 14, 21, 28
    assert numbers(folder) == numbers(plain)
    for name in ("last", "previous", "best"):
        late, soon = (checkpoint.load_checkpoint(at / "checkpoints" / f"{name}.ckpt") for at in (folder, plain))
        assert late["global_step"] == soon["global_step"]
        assert all(torch.equal(late["state_dict"][key], soon["state_dict"][key]) for key in soon["state_dict"])
        assert repr(late.get("optimizer_states")) == repr(soon.get("optimizer_states"))


def test_killed_in_the_middle_of_a_write_a_run_resumes_to_the_same_end(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The thread stops halfway through the file of step 21; what a kill would leave then is copied."""
    true_save, left = torch.save, tmp_path / "left" / "runs" / plain.name

    def save_half(content: Any, part: Any) -> None:
        true_save(content, part)
        if content["global_step"] == 21:
            whole = part.read_bytes()
            part.write_bytes(whole[: len(whole) // 2])
            shutil.copytree(part.parent.parent, left)
            part.write_bytes(whole)

    monkeypatch.setattr(checkpoint.torch, "save", save_half)
    finished(*tiny(tmp_path))
    monkeypatch.undo()
    assert (left / "checkpoints" / ".last.part").exists()
    done = train(f"resume={left}")
    assert done.status == 0, done.err
    assert "going on from step 14" in done.out
    assert numbers(left) == numbers(plain)
    assert not list(left.rglob("*.part"))


def test_a_copy_shares_no_memory_and_tensors_that_are_one_stay_one(tmp_path: Path):
    weight, empty = torch.arange(6.0), torch.zeros(0)
    state = {"tied": [weight, weight.view(6)], "moments": (empty, weight.view(2, 3)), "step": 3}
    copied = checkpoint.copy_to_cpu(state, {})
    weight += 1
    checkpoint.write_checkpoint(copied, tmp_path, "last")
    read = checkpoint.load_checkpoint(tmp_path / "last.ckpt")
    assert torch.equal(read["tied"][0], torch.arange(6.0))
    assert torch.equal(read["moments"][1], torch.arange(6.0).view(2, 3))
    assert read["step"] == 3
    read["tied"][0] += 1
    assert torch.equal(*read["tied"])
