"""A study in W&B: its runs, its summary and its report, against the stand-in of the service."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from running import ROOT
from test_wandb import environment, tiny
from wandb_server import Service, service

STUDY = ["model.heads=2", "steps=12", "evaluation.every=6", "sample.count=1", "metric=[bits_per_byte]", "timing=0"]


class Published(NamedTuple):
    """A study's folder, what each `sync` said, and what arrived."""

    folder: Path
    said: list[list[str]]
    there: Service


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """A study made offline, and synced twice."""
    pool = tmp_path_factory.mktemp("published")
    asked = [*tiny(pool), *STUDY, "attention=mha,gqa", "seeds=2", "tracking=offline"]
    home = environment(pool / "home")
    made = subprocess.run(
        [sys.executable, "ablate.py", *asked], cwd=ROOT, env=home, capture_output=True, text=True, timeout=120
    )
    assert made.returncode == 0, made.stderr
    folder = ROOT / made.stdout.splitlines()[-1]
    with service() as there:
        env = environment(pool / "home", **there.environment)
        command = [sys.executable, "-m", "gptlab", "sync", str(folder)]
        done = [subprocess.run(command, env=env, capture_output=True, text=True, timeout=120) for _ in range(2)]
        assert [one.returncode for one in done] == [0, 0], done[0].stderr + done[1].stderr
        yield Published(folder, [one.stdout.splitlines() for one in done], there)


def test_every_run_arrives_once_beside_one_summary(published: Published):
    runs = [run.opened for run in published.there.runs.values()]
    assert sorted(run["jobType"] for run in runs) == ["summary", "train", "train", "train", "train"]
    assert {run["groupName"] for run in runs} == {published.folder.name}
    assert all(run.ended[-1] == 0 for run in published.there.runs.values())


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
    kept = json.loads((published.folder / "report.spec.json").read_text())
    assert [block["type"] for block in kept["blocks"]] == kinds


def test_without_a_key_nothing_is_asked(published: Published):
    command = [sys.executable, "-m", "gptlab", "sync", str(published.folder)]
    home = environment(published.folder / "home")
    done = subprocess.run(command, env=home, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "WANDB_API_KEY" in done.stderr
