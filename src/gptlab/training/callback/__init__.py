"""Callbacks of the user's own: Lightning callbacks beside the run's, any number, each by its name.

They are called at every hook of `lightning.Callback`, in the order of the list and before the run's own logging and
saving, on every process of the run. A callback that keeps numbers of its own returns them from `state_dict`, so that a
resumed run goes on as if it had never stopped.
"""

from collections.abc import Callable

import lightning

from gptlab.runs.tracker import Histogram

Row = dict[str, float | Histogram]


class Callback(lightning.Callback):
    """The slot's contract: __init__(*, knobs), Lightning's hooks, and `record` for what it measures.

    Lightning puts a `log` of its own into every callback, which no run of gptlab reads.
    """

    name = ""
    write_row: Callable[[int, Row], None] | None = None
    """Both are set by the run before training starts."""

    @property
    def state_key(self) -> str:
        """What the callback's state is called in a checkpoint: two of one class are two."""
        return f"callback.{self.name}"

    def record(self, step: int, values: Row) -> None:
        """Add a row at an optimizer step to metrics.jsonl and W&B; outside a run, do nothing."""
        if self.write_row is not None:
            self.write_row(step, values)
