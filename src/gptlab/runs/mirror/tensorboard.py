"""TensorBoard's event files, below <outputs>/tensorboard/<run>: tensorboard --logdir outputs/tensorboard."""

from typing import Any

from gptlab.runs.mirror import Mirror, MirroredRun, name_summary

SAMPLES = "sample/text_summary"
"""The name under which the library files texts of `sample`."""


class Tensorboard(Mirror):
    """Scalars over steps, samples as texts, config and summary as hyperparameters."""

    package = "tensorboard"

    def __init__(self, run: MirroredRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.config = {key: value for key, value in run.config.items() if isinstance(value, int | float | str | bool)}
        self.folder = run.outputs / "tensorboard" / run.id
        self.is_begun = self.folder.is_dir()
        self.writer = SummaryWriter(str(self.folder))

    def read_last_steps(self) -> dict[str, int]:
        if not self.is_begun:
            return {}
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-not-found]

        events = EventAccumulator(str(self.folder), size_guidance={"scalars": 1, "tensors": 1}).Reload()
        last_steps = {name: events.Scalars(name)[-1].step for name in events.Tags()["scalars"]}
        if SAMPLES in events.Tags()["tensors"]:
            last_steps["sample"] = events.Tensors(SAMPLES)[-1].step
        return last_steps

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
