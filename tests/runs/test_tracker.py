"""Laws of the mirror in W&B, as far as they need no service: when it is online, and that it hurts nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wandb
from conftest import composed
from forked_process import run_forked
from test_wandb_service import environment
from tiny_runs import ROOT, summary, tiny
from wandb_server import KEY

from gptlab.config.recipe import Tracking
from gptlab.errors import Refused
from gptlab.runs.tracker import Histogram, Tracker, choose_mode
from gptlab.runs.wandb_environment import MIN_KEY_LENGTH, find_api_key

TRACKING = composed("tracking=offline").settings.tracking


class Broken:
    """A W&B run that fails; `ended` is how it was closed."""

    ended: int | None = None

    def define_metric(self, *names: str, **settings: Any) -> None:
        pass

    def log(self, row: dict[str, Any]) -> None:
        raise OSError("gone")

    def finish(self, exit_code: int) -> None:
        self.ended = exit_code


def test_a_mirror_that_fails_says_so_once_and_stays_silent(tmp_path: Path):
    said: list[str] = []
    mirror = Tracker("disabled", tmp_path, TRACKING, {}, warn=said.append)
    run = mirror.run = Broken()
    for _ in range(3):
        mirror.log_metrics({"step": 1, "tokens": 1})
        mirror.log_tables({})
    mirror.finish({}, 3)
    assert run.ended == 3
    assert said == ["W&B stopped: OSError: gone; the files on disk are whole"]


class Kept(Broken):
    """A W&B run that keeps its rows."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)


def test_a_histogram_in_a_row_is_one_of_wandb(tmp_path: Path):
    mirror = Tracker("disabled", tmp_path, TRACKING, {}, warn=pytest.fail)
    mirror._wandb = wandb
    run = mirror.run = Kept()
    mirror.log_metrics({"step": 1, "tokens": 8, "a/norms": Histogram([2, 3], [0.0, 0.5, 1.0])})
    drawn = run.rows[0]["a/norms"]
    assert isinstance(drawn, wandb.Histogram)
    assert (list(drawn.histogram), list(drawn.bins)) == ([2, 3], [0.0, 0.5, 1.0])


def test_a_mirror_that_cannot_be_opened_takes_back_its_own_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(self: Tracker, outputs: Path, *args: Any) -> None:
        (outputs / "wandb" / "run-2-one").mkdir()
        (outputs / "wandb" / "latest-run").symlink_to("run-2-one")
        raise OSError("gone")

    monkeypatch.setattr(Tracker, "_open", broken)
    (tmp_path / "wandb" / "run-1-one").mkdir(parents=True)  # before it was resumed
    with pytest.raises(Refused, match=r"^W&B cannot be opened \(online\): gone; use tracking=offline"):
        Tracker("online", tmp_path, TRACKING, {"id": "one"}, resumed=True)
    assert [path.name for path in (tmp_path / "wandb").iterdir()] == ["run-1-one"]


def test_a_run_outlives_its_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import tiny_runs as running

    def broken(self: Tracker, *args: Any, **more: Any) -> None:
        self.run = Broken()

    monkeypatch.setattr(Tracker, "_open", broken)
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
    assert choose_mode(with_mode("auto")) == "offline"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert choose_mode(with_mode("auto")) == "online"
    assert choose_mode(with_mode("online")) == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert choose_mode(with_mode("auto")) == "offline"
    assert choose_mode(with_mode("online")) == "online"


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_other_modes_need_no_key(mode: str, no_key: Path):
    assert choose_mode(with_mode(mode)) == mode


def test_a_key_may_stand_in_netrc_and_must_look_like_one(no_key: Path, monkeypatch: pytest.MonkeyPatch):
    (no_key / ".netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    (no_key / ".netrc").chmod(0o600)
    assert find_api_key() == KEY
    monkeypatch.setenv("WANDB_BASE_URL", "http://elsewhere:8080")
    assert find_api_key() is None
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(Refused, match="tracking=online needs an API key of 40 characters"):
        choose_mode(with_mode("online"))
    assert len(KEY) == MIN_KEY_LENGTH


def opened_with(variables: dict[str, str], folder: Path, *more: str) -> dict[str, Any]:
    """What wandb.init was given by a run in an environment, without opening anything."""
    code = (
        "import json, runpy, sys, wandb\n"
        "def init(**given):\n"
        "    wandb.setup()\n"  # reads the environment, and stumbles over what it cannot read
        "    given.pop('settings'); given.pop('config'); print(json.dumps(given)); raise OSError('enough')\n"
        "wandb.init = init\n"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    words = [str(ROOT / "train.py"), *tiny(folder, "steps=5"), *more]
    done = run_forked("-c", code, *words, env={**environment(folder / "home"), **variables})
    assert done.stdout, done.stderr
    assert done.stderr == "error: W&B cannot be opened (offline): enough; use tracking=disabled\n"
    return json.loads(done.stdout.splitlines()[0])


@pytest.mark.thorough
def test_the_environment_of_wandb_is_honoured(tmp_path: Path):
    said = {
        "WANDB_PROJECT": "mine",
        "WANDB_NAME": "n" * 200,
        "WANDB_TAGS": "x,, y ," + "z" * 70,
        "WANDB_MODE": "offline",
    }
    given = opened_with(said, tmp_path, "tracking=offline")
    assert (given["project"], given["name"]) == ("mine", "n" * 128)
    assert given["tags"][:3] == ["x", "y", "z" * 64]


def test_empty_variables_are_as_if_they_were_not_there(tmp_path: Path):
    names = ("MODE", "PROJECT", "NAME", "TAGS", "ENTITY", "RUN_GROUP", "NOTES", "DIR", "API_KEY", "CACHE_DIR")
    given = opened_with({f"WANDB_{name}": "" for name in names}, tmp_path, "tracking=offline")
    assert given["project"] == "gptlab"
    assert given["name"].startswith("nano-")


def test_blanks_around_a_key_are_no_part_of_it(no_key: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_API_KEY", f"{KEY}\n")
    assert find_api_key() == KEY
    assert choose_mode(with_mode("auto")) == "online"


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("WANDB_API_KEY", f"{KEY} {KEY}", "WANDB_API_KEY has a blank or a line break inside; set it to the key alone"),
        ("WANDB_RUN_GROUP", "g" * 129, f"WANDB_RUN_GROUP={'g' * 20}... has 129 characters, and W&B takes 128"),
        ("WANDB_CACHE_DIR", f"{__file__}/x", f"WANDB_CACHE_DIR={__file__}/x cannot be written; set it to another"),
    ],
)
def test_what_the_service_would_not_take_is_refused_by_name(
    variable: str, value: str, line: str, no_key: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gptlab.runs.wandb_environment.UNSET_FOLDERS", [])
    monkeypatch.setenv(variable, value)
    with pytest.raises(Refused) as refused:
        choose_mode(with_mode("offline"))
    assert str(refused.value).startswith(line)
    assert choose_mode(with_mode("disabled")) == "disabled"


def test_a_project_of_the_environment_is_refused_by_the_variables_name(no_key: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_PROJECT", "p" * 129)
    with pytest.raises(Refused, match=r"^WANDB_PROJECT=ppp.* has 129 characters"):
        choose_mode(replace(TRACKING, project="p" * 129))
    with pytest.raises(Refused, match=r"^tracking\.project=qqq.* has 129 characters"):
        choose_mode(replace(TRACKING, project="q" * 129))


def test_a_variable_that_wandb_cannot_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_BASE_URL", "nourl")
    with pytest.raises(Refused, match=r"use another WANDB_BASE_URL, or unset it$"):
        Tracker("offline", tmp_path, TRACKING, {"id": "a"})


@pytest.mark.parametrize("value", ["x", "nan", "-1", "0", "inf"])
@pytest.mark.parametrize("name", ["WANDB_INIT_TIMEOUT", "WANDB_FINISH_TIMEOUT"])
def test_a_time_limit_that_is_none_is_refused_by_its_variables_name(
    name: str, value: str, no_key: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(name, value)
    with pytest.raises(Refused, match=rf"^{name}={value} is no number of seconds > 0; set it to [36]0, or unset it$"):
        choose_mode(TRACKING)


def test_a_group_that_is_too_long_is_refused(no_key: Path):
    with pytest.raises(Refused, match=r"^tracking\.group=ggg.* has 129 characters"):
        choose_mode(replace(TRACKING, group="g" * 129))
