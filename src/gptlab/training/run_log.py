"""Rows and samples of a run: written to its folder and its tracker, and counted in its state."""

from typing import Any

from gptlab.runs.record import RunFolder, read_rows
from gptlab.runs.tracker import Histogram, Tracker
from gptlab.training.context import RunContext
from gptlab.training.state import RunState


class RunLog:
    """Writes metrics.jsonl and samples.jsonl, and the same to W&B."""

    def __init__(self, context: RunContext, state: RunState) -> None:
        self.folder, self.tracker, self.state = context.folder, context.tracker, state
        settings = context.settings
        self.tokens_per_step = settings.batch_size * settings.model.context

    def axes(self, step: int | None = None) -> dict[str, int]:
        """Return the axes of every row: optimizer steps, and tokens trained on."""
        step = self.state.step if step is None else step
        return {"step": step, "tokens": step * self.tokens_per_step}

    def write_row(self, step: int, values: dict[str, Any]) -> None:
        """Add a row at a step to metrics.jsonl and W&B."""
        row = {**self.axes(step), **values}
        # W&B draws a Histogram; the file has its lists
        plain = {key: value._asdict() if isinstance(value, Histogram) else value for key, value in row.items()}
        self.folder.append_metrics(plain)
        # counted in the checkpointed state: a resumed run cuts the file back to what its checkpoint knew
        self.state.rows += 1
        self.tracker.log_metrics(row)

    def write_sample(self, sample: dict[str, Any]) -> None:
        """Add a generated text to samples.jsonl and W&B."""
        self.folder.append_sample(sample)
        self.state.samples += 1
        self.tracker.log_sample(sample)


def gather_histograms(values: dict[str, float]) -> dict[str, float | Histogram]:
    """Return values with `name[0]`, `name[1]`, ... as one Histogram, whose bar i is between i and i + 1."""
    row: dict[str, float | Histogram] = {}
    for name, value in values.items():
        vector, bracket, _ = name.partition("[")
        if not bracket:
            row[name] = value
            continue
        bars = row.setdefault(vector, Histogram([], [0]))
        assert isinstance(bars, Histogram)
        bars.counts.append(value)
        bars.edges.append(len(bars.counts))
    return row


def send_rows(folder: RunFolder, tracker: Tracker) -> None:
    """Send the rows and samples that a run folder holds to its tracker."""
    for row in read_rows(folder.path / "metrics.jsonl"):
        # in the file a Histogram is its two lists
        pairs = {key: Histogram(**value) if isinstance(value, dict) else value for key, value in row.items()}
        tracker.log_metrics(pairs)
    for sample in read_rows(folder.path / "samples.jsonl"):
        tracker.log_sample(sample)
