"""trackio's SQLite file, below <outputs>/trackio: TRACKIO_DIR=outputs/trackio trackio show.

Rows are written to its storage directly: what goes through its client waits in a queue, which a SIGKILL may end.
"""

import os
from typing import Any

from gptlab.runs.mirror import Mirror, MirroredRun, name_summary


class Trackio(Mirror):
    """Rows over steps, samples as texts, the summary as one more row."""

    package = "trackio"

    def __init__(self, run: MirroredRun) -> None:
        os.environ.setdefault("TRACKIO_DIR", str((run.outputs / "trackio").absolute()))
        from trackio.sqlite_storage import SQLiteStorage  # type: ignore[import-not-found]

        self.storage: Any = SQLiteStorage
        self.project, self.run = run.project, f"{run.name}-{run.id}"
        self.config: dict[str, Any] | None = {**run.config, "group": run.group}
        self.storage.init_db(self.project)

    def read_last_steps(self) -> dict[str, int]:
        last_steps: dict[str, int] = {}
        for row in self.storage.get_logs(self.project, self.run):
            for key in row:
                last_steps[key] = max(int(row["step"] or 0), last_steps.get(key, -1))
        return last_steps

    def log_metrics(self, step: int, numbers: dict[str, float]) -> None:
        self._write({**numbers}, step)

    def log_sample(self, step: int, text: str) -> None:
        self._write({"sample": text}, step)

    def finish(self, summary: dict[str, Any]) -> None:
        self._write(name_summary(summary), None)

    def _write(self, row: dict[str, Any], step: int | None) -> None:
        self.storage.bulk_log(self.project, self.run, [row], steps=None if step is None else [step], config=self.config)
        self.config = None
