"""TensorBoard's event files, below <outputs>/tensorboard/<run>: tensorboard --logdir outputs/tensorboard."""

from typing import Any

from gptlab.runs.mirror import Mirror, MirroredRun, name_summary


class Tensorboard(Mirror):
    """Scalars over steps, samples as texts, config and summary as hyperparameters."""

    package = "tensorboard"

    def __init__(self, run: MirroredRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.config = {key: value for key, value in run.config.items() if isinstance(value, int | float | str | bool)}
        self.writer = SummaryWriter(str(run.outputs / "tensorboard" / run.id))

    def log_metrics(self, step: int, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def log_sample(self, step: int, text: str) -> None:
        self.writer.add_text("sample", f"    {text}".replace("\n", "\n    "), step)  # four blanks: Markdown leaves it
        self.writer.flush()

    def finish(self, summary: dict[str, Any]) -> None:
        self.writer.add_hparams(self.config, name_summary(summary), run_name=".")
        self.writer.close()
