"""Laws of the trackers beside W&B: what was logged is read back from their own files, whole after a SIGKILL."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import composed
from tiny_runs import program, tiny

from gptlab.config.menu import list_choices
from gptlab.config.recipe import check_settings
from gptlab.errors import Refused
from gptlab.runs import mirror as mirrors
from gptlab.runs.mirror import Mirror, MirroredRun, check_mirrors, open_mirrors
from gptlab.runs.tracker import Tracker, choose_mode

WRITE = """
import os, signal, sys
from pathlib import Path
from gptlab.runs.mirror import MirroredRun, open_mirrors
name, folder, ending = sys.argv[1:]
run = MirroredRun(Path(folder), "project", "id-1", "nano-s0", None, {"size": "nano", "seed": 0})
(mirror,) = open_mirrors([name], run).values()
for step in (10, 20):
    mirror.log_metrics(step, {"train/loss": 4.0 - step / 20, "tokens": 8.0 * step})
mirror.log_sample(20, "to be <b>")
if ending == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
mirror.finish({"val/loss": 2.5, "status": "finished"})
"""


def read_tensorboard(folder: Path) -> tuple[dict[int, float], list[str], float | None]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-not-found]

    events = EventAccumulator(str(folder / "tensorboard" / "id-1")).Reload()
    final = events.Scalars("whole_run/val/loss")[0].value if "whole_run/val/loss" in events.Tags()["scalars"] else None
    texts = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("sample/text_summary")]
    return {event.step: event.value for event in events.Scalars("train/loss")}, texts, final


def list_trackio_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of its one run, read in a process of its own, since the library reads its folder at import."""
    code = (
        "import json; from trackio.sqlite_storage import SQLiteStorage as S; (run,) = S.get_runs('project');"
        "print(json.dumps(S.get_logs('project', run), default=str))"
    )
    environment = {**os.environ, "TRACKIO_DIR": str(folder / "trackio")}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return json.loads(printed.stdout.splitlines()[-1])


def read_trackio(folder: Path) -> tuple[dict[int, float], list[str], float | None]:
    rows = list_trackio_rows(folder)
    final = [row["whole_run/val/loss"] for row in rows if "whole_run/val/loss" in row]
    losses = {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}
    return losses, [row["sample"] for row in rows if "sample" in row], final[0] if final else None


def read_mlflow(folder: Path) -> tuple[dict[int, float], list[str], float | None]:
    from mlflow.tracking import MlflowClient  # type: ignore[import-not-found]

    client = MlflowClient((folder / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("project")
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params == {"size": "nano", "seed": "0"}
    texts = [path.read_text() for path in (folder / "mlflow").rglob("samples/*.txt")]
    losses = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "train/loss")}
    return losses, texts, run.data.metrics.get("whole_run/val/loss")


READERS: dict[str, Callable[[Path], tuple[dict[int, float], list[str], float | None]]] = {
    "tensorboard": read_tensorboard,
    "trackio": read_trackio,
    "mlflow": read_mlflow,
}


GO_ON = """
import sys
from pathlib import Path
from gptlab.config.recipe import Tracking
from gptlab.runs.mirror import MirroredRun, open_mirrors
from gptlab.runs.tracker import Tracker
name, folder = sys.argv[1:]
run = MirroredRun(Path(folder), "project", "id-1", "nano-s0", None, {"size": "nano", "seed": 0})
tracker = Tracker("disabled", Path(folder), Tracking("disabled", "project", None, None, [], False), {})
tracker.mirrors = open_mirrors([name], run)
for step in (20, 30):  # the checkpoint was of step 10
    tracker.log_metrics({"step": step, "train/loss": 4.0 - step / 20, "tokens": 8.0 * step})
    tracker.log_metrics({"step": step, "tokens": 8.0 * step, "val/loss": 2.0})
    tracker.log_sample({"step": step, "text": f"at {step}"})
tracker.finish({"val/loss": 2.5, "status": "finished"}, 0)
"""


def count_tensorboard(folder: Path) -> dict[str, list[int]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-not-found]

    events = EventAccumulator(str(folder / "tensorboard" / "id-1")).Reload()
    return {key: [event.step for event in events.Scalars(key)] for key in ("train/loss", "val/loss")}


def count_trackio(folder: Path) -> dict[str, list[int]]:
    rows = list_trackio_rows(folder)
    return {key: [row["step"] for row in rows if key in row] for key in ("train/loss", "val/loss")}


def count_mlflow(folder: Path) -> dict[str, list[int]]:
    from mlflow.tracking import MlflowClient  # type: ignore[import-not-found]

    client = MlflowClient((folder / "mlflow").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("project").experiment_id])  # type: ignore[union-attr]
    histories = {key: client.get_metric_history(run.info.run_id, key) for key in ("train/loss", "val/loss")}
    return {key: sorted(metric.step for metric in history) for key, history in histories.items()}


COUNTERS = {"tensorboard": count_tensorboard, "trackio": count_trackio, "mlflow": count_mlflow}


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize("name", list_choices("mirror"))
def test_a_run_that_goes_on_after_a_kill_loses_no_step_and_doubles_none(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip(name)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for code, words in ((WRITE, ["killed"]), (GO_ON, [])):
        done = subprocess.run([sys.executable, "-c", code, name, str(tmp_path), *words], capture_output=True, text=True)
        assert done.returncode == (-signal.SIGKILL if words else 0), done.stderr
    assert COUNTERS[name](tmp_path) == {"train/loss": [10, 20, 30], "val/loss": [20, 30]}
    losses, texts, final = READERS[name](tmp_path)
    assert losses == {10: 3.5, 20: 3.0, 30: 2.5}
    assert sorted(text.strip() for text in texts) == ["at 30", "to be <b>"]
    assert final == 2.5


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize("ending", ["finished", "killed"])
@pytest.mark.parametrize("name", list_choices("mirror"))
def test_what_was_logged_is_read_back(name: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip(name)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    done = subprocess.run([sys.executable, "-c", WRITE, name, str(tmp_path), ending], capture_output=True, text=True)
    assert done.returncode == (-signal.SIGKILL if ending == "killed" else 0), done.stderr
    losses, texts, final = READERS[name](tmp_path)
    assert losses == {10: 3.5, 20: 3.0}
    assert [text.strip() for text in texts] == ["to be <b>"]
    assert final == (None if ending == "killed" else 2.5)


def test_pages_that_sort_by_name_show_curves_before_the_summary():
    names = [*mirrors.name_summary({"val/loss": 2.5, "seed": 0, "status": "finished"})]
    assert names == ["whole_run/val/loss", "whole_run/seed"]
    assert all(name > curve for name in names for curve in ("lr", "time/step_ms", "train/loss", "val/loss"))


class Kept(Mirror):
    """A mirror that keeps what it is told, and fails at a negative loss."""

    package = "json"

    def __init__(self, run: MirroredRun) -> None:
        self.run, self.rows, self.texts, self.summary = run, [], [], {}
        OPENED.append(self)

    def log_metrics(self, step: int, numbers: dict[str, float]) -> None:
        if numbers.get("train/loss", 0) < 0:
            raise OSError("gone\naway")
        self.rows.append((step, numbers))

    def log_sample(self, step: int, text: str) -> None:
        self.texts.append(text)

    def finish(self, summary: dict[str, Any]) -> None:
        self.summary = summary


OPENED: list[Kept] = []


def test_a_run_is_mirrored_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    OPENED.clear()
    monkeypatch.setattr(mirrors, "_find_classes", lambda names: [("kept", Kept)])
    monkeypatch.setattr(mirrors, "list_choices", lambda group: ["kept"])
    words = [word for word in tiny(tmp_path, "sample.count=1") if word != "tracking=disabled"]
    done = program("train.py", *words, "tracking.to=[kept]")
    assert done.status == 0, done.err
    (mirror,) = OPENED
    rows = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    assert [step for step, _ in mirror.rows][: len(rows)] == [row["step"] for row in rows]
    samples = [json.loads(line)["text"] for line in (done.folder / "samples.jsonl").read_text().splitlines()]
    assert mirror.texts == samples  # the one of the end too
    assert mirror.summary["val/loss"] == json.loads((done.folder / "summary.json").read_text())["val/loss"]
    assert mirror.run.config["attention"] == "mha"
    assert not (tmp_path / "wandb").exists()  # which is not in the list


def test_a_branch_is_mirrored_with_the_rows_that_its_trunk_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mirrors, "_find_classes", lambda names: [("kept", Kept)])
    monkeypatch.setattr(mirrors, "list_choices", lambda group: ["kept"])
    usual = [word for word in tiny(tmp_path, "schedule=wsd", "schedule.warmup_steps=2") if word != "tracking=disabled"]
    # histograms among the rows, which are lists in the file
    words = [*usual, "tracking.to=[kept]", "callback=[gradient_norms]", "callback.gradient_norms.every=5"]
    trunk = program("train.py", *words, "steps=80", "branches=[0.5]")
    OPENED.clear()
    done = program("train.py", *words, f"trunk={trunk.folder}")
    assert done.status == 0, done.err
    rows = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    assert [step for step, _ in OPENED[0].rows][: len(rows)] == [row["step"] for row in rows]
    assert rows[0]["step"] < 32 < rows[-1]["step"]  # where it left the trunk
    assert len(OPENED[0].texts) == len((done.folder / "samples.jsonl").read_text().splitlines())


def test_a_mirror_that_fails_is_told_once_and_dropped(tmp_path: Path):
    said: list[str] = []
    tracker = Tracker("disabled", tmp_path, composed().settings.tracking, {}, warn=said.append)
    tracker.mirrors = {"kept": (kept := Kept(MirroredRun(tmp_path, "p", "i", "n", None, {})))}
    for loss in (1.0, -1.0, 2.0):
        tracker.log_metrics({"step": 1, "tokens": 8, "train/loss": loss, "note": "words", "is": True})
    assert kept.rows == [(1, {"tokens": 8.0, "train/loss": 1.0})]
    assert said == ["kept stopped: OSError: gone away; the files on disk are whole"]
    assert math.isfinite(kept.rows[0][1]["tokens"])


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["wandb", "neptune"], "there is no tracker neptune; choose from mlflow, tensorboard, trackio, wandb"),
        (["mlflow", "mlflow"], "tracking.to=[mlflow,mlflow] names mlflow twice; name each once"),
        (["absent"], "tracking.to=[absent]: nothing_here is not installed here; run: pip install 'gptlab[trackers]'"),
    ],
)
def test_what_cannot_be_tracked_is_refused(names: list[str], line: str, monkeypatch: pytest.MonkeyPatch):
    if names == ["absent"]:
        monkeypatch.setattr(
            mirrors, "_find_classes", lambda _: [("absent", type("A", (), {"package": "nothing_here"}))]
        )
        monkeypatch.setattr(mirrors, "list_choices", lambda group: ["absent"])
    with pytest.raises(Refused) as refused:
        check_mirrors(names)
    assert line in str(refused.value)


def test_nowhere_and_somewhere_is_refused():
    with pytest.raises(Refused, match=r"tracking=disabled tracks nowhere, and tracking.to=\[mlflow\] somewhere; leave"):
        choose_mode(composed("tracking=disabled", "tracking.to=[mlflow]").settings.tracking)


def test_a_run_of_before_there_were_any_is_mirrored_to_wandb_alone():
    recipe = composed("tracking=offline")
    older = {key: value for key, value in recipe.config["tracking"].items() if key != "to"}
    older_recipe = replace(recipe, config={**recipe.config, "tracking": older})
    assert older_recipe.settings.tracking.to == ["wandb"]
    assert not check_settings(older_recipe.config)
    assert older_recipe.hash == recipe.hash


def test_what_cannot_be_opened_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(run: MirroredRun) -> Mirror:
        raise PermissionError(f"no\n{run.id}")

    monkeypatch.setattr(mirrors, "_find_classes", lambda _: [("kept", fail)])
    with pytest.raises(Refused, match=r"tracking\.to: kept cannot be opened: PermissionError: no i; leave it out"):
        open_mirrors(["kept"], MirroredRun(tmp_path, "p", "i", "n", None, {}))
