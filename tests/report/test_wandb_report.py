"""A study in W&B: its runs, its summary and its report, against the stand-in of the service."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from forked_process import run_forked
from test_wandb_service import environment, tiny
from tiny_runs import COMPARED
from wandb_server import Service, service

pytestmark = pytest.mark.thorough

STUDY = ["model.heads=2", "steps=12", "evaluation.every=6", "sample.count=1", "metric=[bits_per_byte]", "timing=0"]


class Published(NamedTuple):
    """A study's folder, what each `sync` said, and what arrived."""

    folder: Path
    said: list[list[str]]
    there: Service


def study(pool: Path, *asked: str, status: int | None = None) -> Path:
    """The folder of an offline study in a process of its own."""
    words = [*tiny(pool), *STUDY, "seeds=2", "tracking=offline", *asked]
    made = run_forked("ablate.py", *words, env=environment(pool / "home"), timeout=180)
    assert made.returncode in (COMPARED if status is None else (status,)), made.stderr
    return next((pool / "ablations").iterdir())


def synced(folder: Path, there: Service, times: int = 1) -> list[list[str]]:
    """What each `sync` of a study said."""
    env = environment(folder / "home", **there.environment)
    done = [run_forked("-m", "gptlab", "sync", str(folder), env=env) for _ in range(times)]
    assert [one.returncode for one in done] == [0] * times, done[0].stderr
    return [one.stdout.splitlines() for one in done]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """A study made offline, and synced twice."""
    folder = study(tmp_path_factory.mktemp("published"), "attention=mha,gqa")
    with service() as there:
        yield Published(folder, synced(folder, there, times=2), there)


def test_every_run_arrives_once_beside_one_summary(published: Published):
    runs = [run.opened for run in published.there.runs.values()]
    assert sorted(run["jobType"] for run in runs) == ["summary", *["train"] * 4]
    assert {run["groupName"] for run in runs} == {published.folder.name}
    assert all(run.ended[-1] == 0 for run in published.there.runs.values())


def test_the_packages_of_all_runs_are_listed_once(published: Published):
    listed = [run.opened["jobType"] for run in published.there.runs.values() if "requirements.txt" in run.files]
    assert listed == ["summary"]


def test_a_second_sync_uploads_nothing_and_keeps_the_report(published: Published):
    first, second = published.said
    assert len(first) == 6
    assert second == first[-1:]
    assert len(published.there.views) == 1


def test_the_summary_holds_intervals_that_wandb_cannot_compute(published: Published):
    (run,) = [run for run in published.there.runs.values() if run.opened["jobType"] == "summary"]
    contrasts = run.tables()["ablation_ci"]
    row = dict(zip(contrasts["columns"], contrasts["data"][0], strict=True))
    kept = json.loads((published.folder / "comparison.json").read_text())
    (one,) = kept["strata"][0]["comparisons"][0]["contrasts"]
    assert (row["metric"], row["arm"], row["low"], row["high"]) == ("loss", one["arm"], one["low"], one["high"])
    assert run.summary["verdict/attention=gqa"] == one["verdict"]


def test_the_report_is_that_of_the_folder(published: Published):
    ((_, view),) = published.there.views.items()
    spec = json.loads(view["spec"])
    kinds = [block["type"] for block in spec["blocks"]]
    assert kinds.count("panel-grid") == 3
    words = json.dumps(spec, ensure_ascii=False)
    assert "attention=gqa" in words
    assert published.folder.name in words
    assert view["displayName"] == f"attention: mha, gqa ({published.folder.name[-6:]})"
    kept = json.loads((published.folder / "report.spec.json").read_text())
    assert [block["type"] for block in kept["blocks"]] == kinds


@pytest.mark.slow
def test_runs_of_other_processes_arrive_too_and_those_that_failed_say_so(tmp_path: Path):
    folder = study(tmp_path, "model.lr=1e-3,1e-2,1e30", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", status=4)
    with service() as there:
        synced(folder, there)
    ends = {run.opened["displayName"]: run.ended[-1] for run in there.runs.values()}
    assert len(ends) == 7
    assert sorted(name for name, code in ends.items() if code) == sorted(name for name in ends if _bad(name, folder))


def _bad(name: str, folder: Path) -> bool:
    """The summary of a study with cells that did not finish, and those cells."""
    return name == folder.name or "1e+30" in name


def test_without_a_key_nothing_is_asked(published: Published):
    done = run_forked("-m", "gptlab", "sync", str(published.folder), env=environment(published.folder / "home"))
    assert done.returncode == 2
    assert "WANDB_API_KEY" in done.stderr


def test_a_repetition_writes_its_summary_only_where_it_would_say_something_new(published: Published):
    pool = published.folder.parents[1]

    def summaries() -> list[tuple[str, int]]:
        return [(path.name, path.stat().st_mtime_ns) for path in (pool / "wandb").glob("*summary-*/*.wandb")]

    before = summaries()
    study(pool, "attention=mha,gqa")
    assert summaries() == before
    (published.folder / "report.spec.json").unlink()
    study(pool, "attention=mha,gqa")
    assert (published.folder / "report.spec.json").exists()
    assert len(summaries()) == len(before) == 1
    assert summaries() != before
