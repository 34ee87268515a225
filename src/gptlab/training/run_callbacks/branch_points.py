"""Branch points: the whole state of a trunk, kept where the cooldown of a shorter run begins."""

import lightning

from gptlab.runs.checkpoint import CheckpointWriter
from gptlab.training.branching.trunk import FOLDER, link_or_copy, list_branch_points
from gptlab.training.context import RunContext
from gptlab.training.run_callbacks import StepCallback
from gptlab.training.state import RunState, StepTimer
from gptlab.training.task import Task


class BranchPoints(StepCallback):
    """Saves after the steps at which the branches of `branches=[...]` leave this run."""

    def __init__(self, context: RunContext, checkpoints: CheckpointWriter, state: RunState, timer: StepTimer) -> None:
        self.context, self.checkpoints, self.state, self.timer = context, checkpoints, state, timer
        self.points = list_branch_points(context.recipe)

    def on_step_end(self, trainer: lightning.Trainer, task: Task) -> None:
        if self.state.step not in self.points:
            return
        self.timer.stop()
        task.share_sums(self.context.processes.all_reduce_mean)
        folder, name = self.context.folder.path / FOLDER, f"step-{self.state.step}"
        best = self.context.folder.checkpoints / "best.ckpt"
        if trainer.is_global_zero:  # the others write nothing, and have no folder
            folder.mkdir(exist_ok=True)
            # the best may be under way to the disk
            self.checkpoints.wait()
            # before the point itself, which says that all is there; at its end the trunk's own best may be a later one
            if best.exists():
                link_or_copy(best, folder / f"{name}-best.ckpt")
        writer = CheckpointWriter(folder)
        writer.save(trainer, name)
        writer.wait()
        self.timer.resume()
