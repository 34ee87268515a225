"""Laws of the mirror in W&B: it holds what the run folder holds, below the outputs; asks nothing, hurts nothing."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import composed
from running import ROOT, Done, rows, summary, tiny

from gptlab import tracking
from gptlab.recipe import Tracking
from gptlab.refused import Refused
from gptlab.tracking import Mirror, api_key, decide

TRAIN = [
    sys.executable,
    "-W",
    "error",
    "-W",
    "ignore::ResourceWarning",
    str(ROOT / "train.py"),
]  # wandb leaves a folder
KEY = "0123456789" * 4
TRACKING = composed("tracking=offline").settings.tracking


def environment(home: Path, **more: str) -> dict[str, str]:
    """That of these tests, with an empty home and nothing of W&B's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "XDG"))}
    home.mkdir(exist_ok=True)
    return {**kept, "OMP_NUM_THREADS": "1", "HOME": str(home), "TMPDIR": str(home), **more}


def train(pool: Path, *overrides: str, **variables: str) -> Done:
    """python train.py <tiny overrides>, in a process of its own."""
    command = [*TRAIN, *(one for one in tiny(pool, *overrides) if one != "tracking=disabled")]
    env = environment(pool / "home", **variables)
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    return Done(done.returncode, done.stdout, done.stderr)


def inspected(pool: Path, *options: str) -> list[Any]:
    """What `wandb leet inspect` says of the only run in a pool, an object a line."""
    (file,) = pool.glob("wandb/offline-run-*/*.wandb")
    wandb = str(Path(sys.executable).parent / "wandb")
    found = shutil.which("wandb", path=str(Path(wandb).parent))
    assert found, f"{wandb} is not there"
    said = subprocess.run(
        [found, "leet", "inspect", "--json", *options, str(file)],
        env=environment(pool / "home"),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    return [json.loads(said)] if "--summary" in options else [json.loads(line) for line in said.splitlines()]


def history(pool: Path) -> list[dict[str, Any]]:
    """The rows that W&B holds, without its own keys."""
    items = [record["history"]["item"] for record in inspected(pool) if record["type"] == "history"]
    return [{key: value for key, value in item.items() if not key.startswith("_")} for item in items]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A run with the default tracking, whose environment would have it elsewhere."""
    pool = tmp_path_factory.mktemp("whole")
    hostile = dict.fromkeys(("WANDB_RUN_ID", "WANDB_NAME", "WANDB_PROJECT", "WANDB_RUN_GROUP"), "mine")
    hostile |= {"WANDB_DIR": str(pool / "elsewhere"), "WANDB_RESUME": "must", "WANDB_DISABLED": "true"}
    done = train(pool, "attention=gqa", "sample.count=2", "tracking.tags=[one]", "tracking.group=we", **hostile)
    assert (done.status, done.err) == (0, "")
    return done


def pool_of(done: Done) -> Path:
    """Where the run lives."""
    return done.folder.parents[1]


# -- what it holds


def test_the_mirror_knows_the_run(whole: Done):
    (said,) = inspected(pool_of(whole), "--summary")
    assert (said["name"], said["project"], said["state"], said["exit_code"]) == (
        whole.folder.name.rpartition("-")[0],
        "gptlab",
        "finished",
        0,
    )
    config = said["config"]
    assert (config["attention"], config["size"], config["seed"]) == ("gqa", "nano", 0)
    assert config["variant"].startswith("text-gqa") or config["variant"].startswith("gqa")
    assert config["n_params"] == summary(whole.folder)["params"]
    assert config["tokens_budget"] == 40 * 8 * 16
    assert config["cfg"]["attention"]["kv_heads"] == 2
    assert said["summary"]["status"] == "finished"
    for key, value in summary(whole.folder).items():
        assert said["summary"][key] == (pytest.approx(value) if isinstance(value, float) else value), key


def test_the_mirror_holds_every_row(whole: Done):
    held = [row for row in history(pool_of(whole)) if not any(key.startswith("samples") for key in row)]
    written = rows(whole.folder / "metrics.jsonl")
    assert len(written) == 40 // 5 + 1 + 1
    assert held == [pytest.approx(row) for row in written]


def test_tokens_are_the_axis_and_the_run_is_grouped(whole: Done):
    records = inspected(pool_of(whole))
    metrics = [record["metric"] for record in records if record["type"] == "metric"]
    assert any(metric.get("glob_name") == "*" and metric["step_metric"] == "tokens" for metric in metrics)
    (run,) = [record["run"] for record in records if record["type"] == "run"]
    assert (run["run_group"], run["job_type"], run["tags"][0]) == ("we", "train", "one")
    assert "nano" in run["tags"]


def test_the_mirror_holds_all_texts_in_a_table(whole: Done):
    (file,) = pool_of(whole).glob("wandb/offline-run-*/files/media/table/*.table.json")
    table = json.loads(file.read_text())
    assert table["columns"] == ["step", "prompt", "sample", "seed", "temperature"]
    last = [row for row in rows(whole.folder / "samples.jsonl") if row["step"] == 40]
    assert table["data"] == [[{**row, "sample": row["text"]}[name] for name in table["columns"]] for row in last]
    assert len(last) == 2
    assert len(list(pool_of(whole).glob("wandb/offline-run-*/files/media/html/*.html"))) == 1


def test_all_files_lie_below_the_outputs(whole: Done):
    pool = pool_of(whole)
    assert {path.name for path in pool.iterdir()} - {"text.txt"} == {"home", "runs", "wandb"}
    assert not [path for path in (pool / "home").rglob("*") if "wandb" in path.name.lower()]


# -- what it does not do


def test_disabled_leaves_nothing_and_imports_nothing(tmp_path: Path):
    code = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    code += "; print('wandb' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, TRAIN[-1], *tiny(tmp_path, "steps=5")],
        cwd=ROOT,
        env=environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert not (tmp_path / "wandb").exists()


def test_online_without_a_key_asks_nobody_even_on_a_terminal(tmp_path: Path):
    here, there = pty.openpty()
    command = [*TRAIN, *tiny(tmp_path, "tracking=online")]
    process = subprocess.Popen(command, env=environment(tmp_path / "home"), stdin=there, stdout=there, stderr=there)
    assert process.wait(timeout=30) == 2
    os.close(there)
    said = os.read(here, 10_000).decode()
    os.close(here)
    assert said.startswith("error: tracking=online needs an API key")
    assert said.count("\n") == 1


@pytest.mark.slow
def test_a_server_that_is_not_there_is_told_in_one_line_in_bounded_time(tmp_path: Path):
    start = time.monotonic()
    done = train(tmp_path, "tracking=online", WANDB_API_KEY=KEY, WANDB_BASE_URL="http://127.0.0.1:9")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: W&B cannot be opened (online): ")
    assert done.err.endswith("; use tracking=offline or tracking=disabled\n")
    assert done.err.count("\n") == 1
    assert time.monotonic() - start < 75
    assert not list((tmp_path / "runs").iterdir())
    assert not list((tmp_path / "wandb").glob("run-*"))


def test_a_killed_run_has_lost_at_most_the_last_second(tmp_path: Path):
    overrides = [one for one in tiny(tmp_path, "steps=100000", "log_every=20") if one != "tracking=disabled"]
    process = subprocess.Popen([*TRAIN, *overrides], env=environment(tmp_path / "home"), stdout=subprocess.DEVNULL)
    written: list[dict[str, Any]] = []
    for _ in range(600):
        written = [row for file in tmp_path.glob("runs/*/metrics.jsonl") for row in lines(file)]
        if len(written) > 100:
            break
        time.sleep(0.05)
    known = [row for row in written if "train/loss" in row]
    time.sleep(2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    held = [row["step"] for row in history(tmp_path) if "train/loss" in row]
    assert len(known) > 50
    assert held[: len(known)] == [row["step"] for row in known]
    (said,) = inspected(tmp_path, "--summary")
    assert said["state"] != "finished"
    assert said["config"]["size"] == "nano"


def lines(file: Path) -> list[dict[str, Any]]:
    """The rows of a file that is being written, but for the last, which may be half there."""
    return [json.loads(line) for line in file.read_text().split("\n")[:-1]]


TWICE = """
import sys
from pathlib import Path
from gptlab import wiring
from gptlab.run import run
for pool, seed in zip(sys.argv[1:3], (0, 1)):
    run(wiring.compose([*sys.argv[3:], f"outputs={pool}", f"seed={seed}"]))
"""


def test_two_runs_in_one_process_are_two_in_the_mirror(tmp_path: Path):
    pools = [tmp_path / "one", tmp_path / "two"]
    asked = [one for one in tiny(tmp_path, "sample.count=1") if not one.startswith(("tracking", "outputs"))]
    command = [sys.executable, "-c", TWICE, *map(str, pools), *asked]
    subprocess.run(command, env=environment(tmp_path / "home"), check=True, capture_output=True, timeout=120)
    for seed, pool in enumerate(pools):
        (said,) = inspected(pool, "--summary")
        assert (said["config"]["seed"], said["exit_code"]) == (seed, 0)
        (folder,) = (pool / "runs").iterdir()
        assert folder.name.startswith(said["name"])
        assert len([row for row in history(pool) if "train/loss" in row]) == 8
        assert list(pool.glob("wandb/data/artifacts/staging"))  # each stages below its own outputs


# -- the mirror itself


class Broken:
    """A W&B run that fails."""

    def log(self, row: dict[str, Any]) -> None:
        raise OSError("gone")


def test_a_mirror_that_fails_says_so_once_and_stays_silent(tmp_path: Path):
    said: list[str] = []
    mirror = Mirror("disabled", tmp_path, TRACKING, {}, complain=said.append)
    mirror.run = Broken()
    for _ in range(3):
        mirror.log({"step": 1, "tokens": 1})
        mirror.samples([])
    mirror.finish({}, 0)
    assert said == ["W&B stopped: OSError: gone; the run goes on, its own files are whole"]


def test_a_run_outlives_its_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import running

    def broken(self: Mirror, *args: Any, **more: Any) -> None:
        self.run = Broken()

    monkeypatch.setattr(Mirror, "_open", broken)
    done = running.train(*[one for one in tiny(tmp_path) if one != "tracking=disabled"], "tracking=offline")
    assert (done.status, done.err) == (0, "")
    assert done.out.count("W&B stopped: OSError: gone") == 1
    assert summary(done.folder)["status"] == "finished"


def with_mode(mode: Any) -> Tracking:
    """The settings with another mode."""
    return replace(TRACKING, mode=mode)


@pytest.fixture
def no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without W&B."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_auto_is_online_only_with_a_key_and_no_mode_in_the_environment(no_key: Path, monkeypatch: pytest.MonkeyPatch):
    assert decide(with_mode("auto")) == "offline"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert decide(with_mode("auto")) == "online"
    assert decide(with_mode("online")) == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert decide(with_mode("auto")) == "offline"
    assert decide(with_mode("online")) == "online"


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_other_modes_need_no_key(mode: str, no_key: Path):
    assert decide(with_mode(mode)) == mode


def test_a_key_may_stand_in_netrc_and_must_look_like_one(no_key: Path, monkeypatch: pytest.MonkeyPatch):
    (no_key / ".netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    (no_key / ".netrc").chmod(0o600)
    assert api_key() == KEY
    monkeypatch.setenv("WANDB_BASE_URL", "http://elsewhere:8080")
    assert api_key() is None
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(Refused, match="tracking=online needs an API key of 40 characters"):
        decide(with_mode("online"))
    assert len(KEY) == tracking.KEY
