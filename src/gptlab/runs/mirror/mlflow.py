"""MLflow's local file store, below <outputs>/mlflow.

To look at it: MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri outputs/mlflow. MLflow
keeps this store without adding to it; `mlflow migrate-filestore` makes a database of it.
"""

import os
import time
from typing import Any

from gptlab.runs.mirror import Mirror, MirroredRun, name_summary


class Mlflow(Mirror):
    """Metrics over steps, choices as parameters, samples as texts; a run that goes on is found by its id."""

    package = "mlflow"

    def __init__(self, run: MirroredRun) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # 3.x keeps it, and asks to be told
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.entities import Metric  # type: ignore[import-not-found]
        from mlflow.tracking import MlflowClient  # type: ignore[import-not-found]

        self.metric: Any = Metric
        self.client = MlflowClient((run.outputs / "mlflow").absolute().as_uri())
        experiment = self.client.get_experiment_by_name(run.project)
        number = experiment.experiment_id if experiment else self.client.create_experiment(run.project)
        same = self.client.search_runs([number], f"tags.gptlab_id = '{run.id}'", max_results=1)
        self.run = same[0].info.run_id if same else self._begin(number, run)

    def _begin(self, experiment: str, run: MirroredRun) -> str:
        tags = {"mlflow.runName": run.name, "gptlab_id": run.id, "group": run.group or ""}
        begun = self.client.create_run(experiment, tags=tags).info.run_id
        for key, value in run.config.items():
            self.client.log_param(begun, key, value)
        return begun

    def read_last_steps(self) -> dict[str, int]:
        last_steps = {}
        for key in self.client.get_run(self.run).data.metrics:
            last_steps[key] = max(metric.step for metric in self.client.get_metric_history(self.run, key))
        for file in self.client.list_artifacts(self.run, "samples"):
            step = int(file.path.rpartition("/step_")[2].partition("_")[0])
            last_steps["sample"] = max(step, last_steps.get("sample", -1))
        return last_steps

    def log_metrics(self, step: int, numbers: dict[str, float]) -> None:
        now = int(time.time() * 1000)
        self.client.log_batch(self.run, [self.metric(key, value, now, step) for key, value in numbers.items()])

    def log_sample(self, step: int, text: str) -> None:
        self.client.log_text(self.run, text, f"samples/step_{step:07d}_{time.time_ns()}.txt")

    def finish(self, summary: dict[str, Any]) -> None:
        step = int(summary.get("steps") or 0)
        self.log_metrics(step, name_summary(summary))
        self.client.set_terminated(self.run, "FINISHED" if summary.get("status") == "finished" else "FAILED")
