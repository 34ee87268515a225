"""Laws of W&B itself: what arrives at the service, against a stand-in of it; nothing leaves this machine."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from forked_process import run_forked
from tiny_runs import ROOT, TINY, Done, rows, summary
from wandb_server import KEY, Run, Service, service

WANDB = str(Path(sys.executable).parent / "wandb")
WARNINGS = ("error", "ignore::ResourceWarning")  # wandb leaves a folder


def environment(home: Path, **more: str) -> dict[str, str]:
    """That of these tests, with an empty home and nothing of W&B's but some haste."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "XDG"))}
    home.mkdir(exist_ok=True, parents=True)
    haste = {"WANDB_INIT_TIMEOUT": "1", "WANDB_FINISH_TIMEOUT": "20"}
    return {**kept, **haste, "OMP_NUM_THREADS": "1", "HOME": str(home), "TMPDIR": str(home), **more}


def tiny(pool: Path, *more: str) -> list[str]:
    """The overrides of a tiny run whose tracking is asked for in `more`."""
    return [*(word for word in TINY if word != "tracking=disabled"), f"outputs={pool}", *more]


def train(pool: Path, *more: str, **variables: str) -> Done:
    """python train.py <tiny overrides>, in a process of its own."""
    env = environment(pool / "home", **variables)
    done = run_forked("train.py", *tiny(pool, *more), env=env, warnings=WARNINGS)
    return Done(done.returncode, done.stdout, done.stderr)


def sync(home: Path, there: Service, *folders: Path) -> None:
    """wandb sync <folders>, also of runs that were online."""
    assert shutil.which(WANDB), f"{WANDB} is not there"
    env = environment(home, **there.environment)
    command = [WANDB, "sync", "--include-online", *map(str, folders)]
    subprocess.run(command, cwd=home, env=env, check=True, capture_output=True, timeout=60)


class Arrived(NamedTuple):
    """A run as train.py left it, and as the service has it."""

    done: Done
    there: Service

    @property
    def run(self) -> Run:
        """What the service has."""
        return self.there.runs[json.loads((self.done.folder / "run.json").read_text())["id"]]


def lines(file: Path) -> list[dict[str, Any]]:
    """The rows of a file, but for the last, which a kill may have cut."""
    return [json.loads(line) for line in file.read_text().split("\n")[:-1]]


def metrics(run: Run) -> list[dict[str, Any]]:
    """The rows of history that are numbers."""
    return [row for row in run.history if not any(key.startswith("samples") for key in row)]


# -- what arrives

SEVERAL = f"""
import json, os, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tests" / "helpers")!r})
from tiny_runs import rows, train

def stop(pool, rows, number, seconds):
    for _ in range(3000):
        time.sleep(0.01)
        if any(file.read_text().count("\\n") > rows for file in Path(pool).glob("runs/*/metrics.jsonl")):
            time.sleep(seconds)
            return os.kill(os.getpid(), number)

SIGNALS = {{"stopped": (3, signal.SIGTERM, 0), "killed": (60, signal.SIGKILL, 2)}}
for name, pool, words in json.loads(sys.argv[1]):
    if name in SIGNALS:
        threading.Thread(target=stop, args=[pool, *SIGNALS[name]]).start()
    print(json.dumps([name, train(*words)]), flush=True)
"""
"""Several runs in one process. `stopped` gets a SIGTERM, `killed` a SIGKILL two
seconds after its sixtieth row."""

LONGER = ["steps=200", "log_every=20", "evaluation.every=200"]
RUNS = {
    "whole": ["attention=gqa", "sample.count=2", "tracking.tags=[one,nano]", "tracking.group=we"],
    "shared": ["tracking.artifacts=true"],
    "unjudged": ["tracking.artifacts=true", "evaluation.every=40"],
    "diverged": ["optimizer.lr=1e30"],
    "stopped": LONGER,
    "resumed": [*LONGER, "resume=auto"],
    "lost": ["name=lost", "steps=120"],
    # compile=off: on a slow machine so many steps are a quarter of an hour, which compile=auto would compile
    "killed": ["steps=100000", "log_every=10", "evaluation.every=100000", "compile=off"],
}


def several(home: Path, mode: str, names: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Some of RUNS, each with outputs of its own but for the one that is resumed.

    A killed one is waited for by the pipe of its output, which W&B's process holds until it has written all.
    """
    pools = {name: home / name.replace("resumed", "stopped") for name in names}
    asked = [(name, str(pool), tiny(pool, f"tracking={mode}", *RUNS[name])) for name, pool in pools.items()]
    env = environment(home / "home", **variables)
    if "killed" not in names:
        return run_forked("-c", SEVERAL, json.dumps(asked), env=env, warnings=WARNINGS)
    options = [word for option in WARNINGS for word in ("-W", option)]
    code = [sys.executable, *options, "-c", SEVERAL, json.dumps(asked)]
    return subprocess.run(code, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


def left(done: subprocess.CompletedProcess[str], there: Service) -> dict[str, Arrived]:
    """What runs of `several` left."""
    return {name: Arrived(Done(*said), there) for name, said in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Arrived]]:
    """Runs with tracking=online, by name. The service is lost during the last."""
    with service(last="lost") as there:
        variables = {**there.environment, "WANDB_FINISH_TIMEOUT": "3"}
        done = several(tmp_path_factory.mktemp("online"), "online", [*RUNS][:-1], **variables)
        assert done.returncode == 0, done.stderr
        yield left(done, there)


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Arrived]]:
    """A whole run and a killed one with tracking=offline, uploaded later, and where they are; their environment would
    have them elsewhere."""
    home = tmp_path_factory.mktemp("offline")
    hostile = dict.fromkeys(("WANDB_RUN_ID", "WANDB_RUN_GROUP"), "mine")
    hostile |= {"WANDB_DIR": str(home / "elsewhere"), "WANDB_RESUME": "must", "WANDB_DISABLED": "true"}
    with service() as there:
        done = several(home, "offline", ["whole", "killed"], **hostile, WANDB_BASE_URL=there.url)
        assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
        assert not there.asked
        sync(tmp_path_factory.mktemp("home"), there, *home.glob("*/wandb/offline-run-*"))
        yield home, left(done, there)["whole"]


@pytest.fixture(scope="module", params=["online", "offline"])
def whole(request: pytest.FixtureRequest) -> Arrived:
    """A finished run that the service was told of at once, or later."""
    found = request.getfixturevalue(request.param)
    return found["whole"] if request.param == "online" else found[1]


def test_the_service_knows_the_run(whole: Arrived):
    run, folder = whole.run, whole.done.folder
    git = json.loads((folder / "run.json").read_text())["git"]
    told = run.opened
    assert (told["project"], told["groupName"], told["jobType"]) == ("gptlab", "we", "train")
    assert told["displayName"] == folder.name.rpartition("-")[0]
    assert told["tags"] == [tag for tag in ("one", "nano", run.config["variant"][:64], "full", git) if tag]
    config = run.config
    assert (config["attention"], config["size"], config["seed"]) == ("gqa", "nano", 0)
    assert config["variant"].startswith("text-gqa-")
    assert config["n_params"] == summary(folder)["params"]
    assert config["tokens_budget"] == 40 * 8 * 16
    assert config["data_sha256"] == summary(folder)["data_sha256"]
    assert config["git"] == git
    assert config["cfg"]["attention"]["kv_heads"] == 2


def test_every_row_arrives(whole: Arrived):
    written = rows(whole.done.folder / "metrics.jsonl")
    assert len(written) == 40 // 5 + 1 + 1
    assert metrics(whole.run) == [pytest.approx(row) for row in written]
    assert all({"step", "tokens"} <= row.keys() for row in whole.run.history)


def test_tokens_are_the_axis(whole: Arrived):
    defined = json.loads(whole.run.opened["config"])["_wandb"]["value"]["m"]  # 1: name, 2: glob, 5: axis, from 1
    (every,) = [one for one in defined if one.get("2") == "*"]
    assert defined[every["5"] - 1]["1"] == "tokens"


def test_the_end_arrives(whole: Arrived):
    run, own = whole.run, summary(whole.done.folder)
    assert run.ended == [0]
    for key, value in own.items():
        assert run.summary[key] == (pytest.approx(value) if isinstance(value, float) else value), key
    assert run.summary["final/val_loss"] == own["val/loss"]
    assert run.summary["final/ppl"] == own["val/perplexity"]
    assert run.summary["best/val_loss"] == own["val/loss_best"]


def test_all_texts_arrive_in_a_table(whole: Arrived):
    table = whole.run.tables()["samples"]
    assert table["columns"] == ["step", "prompt", "sample", "seed", "temperature"]
    interim, *last = rows(whole.done.folder / "samples.jsonl")
    assert table["data"] == [[{**row, "sample": row["text"]}[name] for name in table["columns"]] for row in last]
    assert len(last) == 2
    (page,) = [data.decode() for name, data in whole.run.files.items() if name.endswith(".html")]
    assert page.startswith("<pre>")
    assert len(page) >= len(f"<pre>{interim['text']}</pre>")


def test_only_what_is_asked_for_is_an_artifact(online: dict[str, Arrived]):
    for name, best in (("shared", "best"), ("unjudged", "last")):
        done, there = online[name].done, online[name].there
        artifact = there.artifact(f"{summary(done.folder)['id']}-{best}")
        assert (artifact.type, artifact.committed) == ("checkpoint", True)
        assert artifact.files == {f"{best}.ckpt": (done.folder / "checkpoints" / f"{best}.ckpt").read_bytes()}
        assert list(artifact.manifest["contents"]) == [f"{best}.ckpt"]
    assert len([one for one in online["whole"].there.artifacts.values() if one.type == "checkpoint"]) == 2
    assert "smoke" in online["unjudged"].run.opened["tags"]


def test_all_files_lie_below_the_outputs(offline: tuple[Path, Arrived], online: dict[str, Arrived]):
    home, _ = offline
    assert {path.name for path in home.iterdir()} == {"home", "whole", "killed"}
    assert {path.name for path in (home / "whole").iterdir()} == {"runs", "wandb"}
    assert not [*(home / "home").rglob("wandb")]
    for name in ("whole", "shared"):  # each run of a process stages below its own
        assert list(online[name].done.folder.parents[1].glob("wandb/data/artifacts/staging"))


# -- what does not end well


def test_a_run_that_diverged_has_failed(online: dict[str, Arrived]):
    run = online["diverged"].run
    assert online["diverged"].done.status == 1
    assert (run.ended, run.summary["status"]) == ([1], "diverged")
    assert run.summary["reason"].startswith("step ")


def test_a_run_that_was_stopped_says_so_and_is_the_same_when_resumed(online: dict[str, Arrived]):
    assert online["stopped"].done.status == 143
    assert online["resumed"].done.status == 0
    run, folder = online["resumed"].run, online["resumed"].done.folder
    assert online["stopped"].run is run
    assert metrics(run) == [pytest.approx(row) for row in rows(folder / "metrics.jsonl")]
    assert (run.ended, run.summary["status"]) == ([143, 0], "finished")


def test_a_run_outlives_the_service_and_is_uploaded_later(online: dict[str, Arrived], tmp_path: Path):
    done, there = online["lost"].done, online["lost"].there
    held, written = metrics(online["lost"].run), rows(done.folder / "metrics.jsonl")
    assert done.status == 0
    assert done.out.count("W&B stopped: TimeoutError: ") == done.out.count("W&B stopped") == 1
    assert summary(done.folder)["status"] == "finished"
    assert len(written) == 120 // 5 + 120 // 20 - 1 + 1
    assert (held, online["lost"].run.ended) == ([], [])
    with service() as again:
        sync(tmp_path, again, *done.folder.parents[1].glob("wandb/run-*"))
        run = again.runs[summary(done.folder)["id"]]
        assert metrics(run) == [pytest.approx(row) for row in written]
    assert there.lost


def test_a_killed_run_lost_at_most_a_second_and_never_says_that_it_finished(offline: tuple[Path, Arrived]):
    home, other = offline
    (folder,) = (home / "killed" / "runs").iterdir()
    run = other.there.runs[json.loads((folder / "run.json").read_text())["id"]]
    written = [row["step"] for row in lines(folder / "metrics.jsonl") if "train/loss" in row]
    held = [row["step"] for row in metrics(run) if "train/loss" in row]
    assert held == written[: len(held)]
    assert len(held) > 60
    assert run.ended != [0]
    assert "status" not in run.summary


# -- what is refused


@pytest.mark.few(1)
@pytest.mark.parametrize("terminal", [False, True])
def test_online_without_a_key_asks_nobody(terminal: bool, tmp_path: Path):
    here, there = pty.openpty() if terminal else os.pipe()
    command = [sys.executable, str(ROOT / "train.py"), *tiny(tmp_path, "tracking=online")]
    stdin = there if terminal else subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment(tmp_path / "home"), stdin=stdin, stdout=there, stderr=there)
    assert process.wait(timeout=30) == 2
    os.close(there)
    said = os.read(here, 10_000).decode()
    os.close(here)
    assert said.startswith("error: tracking=online needs an API key")
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.slow
def test_a_service_that_is_not_there_is_told_in_one_line_and_leaves_nothing(tmp_path: Path):
    done = train(tmp_path, "tracking=online", WANDB_API_KEY=KEY, WANDB_BASE_URL="http://127.0.0.1:9")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: W&B cannot be opened (online): ")
    assert done.err.endswith("; use tracking=offline or tracking=disabled\n")
    assert done.err.count("\n") == 1
    assert not list((tmp_path / "runs").iterdir())
    assert {path.name for path in (tmp_path / "wandb").iterdir()} <= {"cache", "data"}


# -- a study's own run

SUM_UP = """
import json, sys
from pathlib import Path
from gptlab import compose as wiring
from gptlab.report.render.wandb_summary import upload_summary
file, outputs = Path(sys.argv[1]), Path(sys.argv[2])
for mode, failed in json.loads(sys.argv[3]):
    tables = {"ablation": (["arm", "loss", "seeds"], [["mha", 1.5, 3], ["gqa", None, "none"]]), "empty": (["x"], [])}
    tracking = wiring.compose(["tracking.tags=[mine]"]).settings.tracking
    files = {"report": file, "all": file.parent}
    content = {"tables": tables, "summary": {"best": "mha", "n": 2}, "files": files}
    upload_summary(mode, outputs, tracking, "a+b-1", **content, failed=failed, warn=print)
"""


def summed_up(home: Path, modes: list[tuple[str, bool]], **variables: str) -> str:
    """What is said when a study is summed up several times."""
    (home / "study").mkdir(exist_ok=True)
    (home / "study" / "report.md").write_text("better")
    words = [str(home / "study" / "report.md"), str(home / "outputs"), json.dumps(modes)]
    env = environment(home / "home", **variables)
    done = run_forked("-c", SUM_UP, *words, env=env, warnings=WARNINGS)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_study_is_one_run_however_often_it_is_summed_up(mode: str, tmp_path: Path):
    with service() as there:
        assert summed_up(tmp_path, [(mode, True), (mode, False)], **there.environment) == ""
        if mode == "offline":
            assert not there.asked
            (folder,) = tmp_path.glob("outputs/wandb/offline-run-*")
            sync(tmp_path / "home", there, folder)
        ((name, run),) = there.runs.items()
        told = run.opened
        assert (told["displayName"], told["groupName"], told["jobType"]) == ("a+b-1", "a+b-1", "summary")
        assert (told["tags"], run.config) == (["mine"], {"study": "a+b-1"})
        assert run.ended == ([1, 0] if mode == "online" else [0])
        assert {key: run.summary[key] for key in ("best", "n", "status")} == {
            "best": "mha",
            "n": 2,
            "status": "finished",
        }
        assert run.tables()["ablation"] == {
            "columns": ["arm", "loss", "seeds"],
            "data": [["mha", 1.5, 3], ["gqa", None, "none"]],
        }
        files = {one.name: one.files for one in there.artifacts.values() if one.type == "study"}
        assert files == {f"{name}-report": {"report.md": b"better"}, f"{name}-all": {"report.md": b"better"}}


def test_a_study_outlives_a_summary_that_fails(tmp_path: Path):
    said = summed_up(
        tmp_path, [("online", False), ("disabled", False)], WANDB_API_KEY=KEY, WANDB_BASE_URL="http://127.0.0.1:9"
    )
    assert said.startswith("no summary of a+b-1: W&B cannot be opened (online): ")
    assert said.count("\n") == 1


# -- reports

REPORT = """
import wandb_workspaces.reports.v2 as wr
blocks = [wr.MarkdownBlock("better"), wr.PanelGrid(runsets=[wr.Runset()], panels=[wr.LinePlot(x="tokens")])]
report = wr.Report(entity="someone", project="gptlab", title="one", blocks=blocks)
report.save()
report.title = "two"
report.save()
print(report.url, wr.Report.from_url(report.url).title)
"""

pytestmark = pytest.mark.thorough


def test_the_stand_in_keeps_reports(tmp_path: Path):
    pytest.importorskip("wandb_workspaces", reason="needs the extra `report`")
    with service() as there:
        env = environment(tmp_path / "home", **there.environment, WANDB_SILENT="true")
        code = [sys.executable, "-c", REPORT]
        said = subprocess.run(code, env=env, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout
        ((name, view),) = there.views.items()
        assert said == f"{there.url}/someone/gptlab/reports/two--{name} two\n"
        assert [block["type"] for block in json.loads(view["spec"])["blocks"]][1:3] == ["markdown-block", "panel-grid"]
        assert list(there.projects) == ["gptlab"]
