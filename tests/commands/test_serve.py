"""Laws of gptlab serve: all runs and studies of a place, live, behind a token, with curves, reports and samples."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from tiny_runs import finished, program, tiny

from gptlab.commands.live.server import make_sample_command
from gptlab.commands.live.snapshot import Snapshot
from gptlab.errors import Refused

ROW = {"step": 10, "tokens": 80, "train/loss": 3.5}


def fake_run(outputs: Path, name: str, *rows: dict[str, Any]) -> Path:
    """A run folder with rows, as one that is at work has it."""
    (folder := outputs / "runs" / name).mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def test_five_hundred_runs_are_listed_in_no_time(tmp_path: Path):
    for number in range(500):
        folder = fake_run(tmp_path, f"run-{number}", ROW)
        (folder / "summary.json").write_text('{"val/loss": 2.5, "status": "finished", "steps": 10, "params": 100}')
    snapshot = Snapshot(tmp_path, lambda folder: "")
    first = snapshot.list_runs()
    began = time.process_time()
    assert snapshot.list_runs()[0].keys() == first[0].keys()
    assert time.process_time() - began < 0.2
    assert len(first) == 500


def test_a_run_that_goes_on_is_read_again(tmp_path: Path):
    folder = fake_run(tmp_path, "run", ROW)
    snapshot = Snapshot(tmp_path, lambda folder: "")
    assert [run["step"] for run in snapshot.list_runs()] == [10]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({**ROW, "step": 20, "val/loss": 3.0}) + '\n{"step": 3')  # half a row
    assert [run["step"] for run in snapshot.list_runs()] == [20]
    assert snapshot.read_curves(["run"])["run"] == {"train/loss": [[10, 3.5], [20, 3.5]], "val/loss": [[20, 3.0]]}


def test_curves_are_thinned_and_end_with_the_last_row(tmp_path: Path):
    fake_run(tmp_path, "run", *({**ROW, "step": step} for step in range(1, 1001)))
    points = Snapshot(tmp_path, lambda folder: "").read_curves(["run"])["run"]["train/loss"]
    assert len(points) <= 300
    assert points[-1][0] == 1000


@pytest.mark.parametrize("name", ["", "..", "../runs/run", "/etc", "none"])
def test_only_folders_of_the_place_are_read(name: str, tmp_path: Path):
    fake_run(tmp_path, "run", ROW)
    snapshot = Snapshot(tmp_path, lambda folder: "")
    for read in (snapshot.find_run, lambda name: snapshot.find_report("runs", name)):
        with pytest.raises(Refused, match="is no run or study of"):
            read(name)


@pytest.mark.parametrize("form", [[], None, {"run": "run", "length": None}, {"run": "run", "temperature": [1]}])
def test_a_form_that_is_none_asks_for_no_sample(form: Any, tmp_path: Path):
    fake_run(tmp_path, "run", ROW)
    with pytest.raises((Refused, ValueError)):
        make_sample_command(Snapshot(tmp_path, lambda folder: ""), form)


def test_what_cannot_be_served_is_refused_in_one_line(tmp_path: Path):
    pytest.importorskip("uvicorn")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = program("-m gptlab", "serve", str(tmp_path), "--port", str(port))
    line = f"error: --port={port} cannot be had: Address already in use; take another, or 0 for any that is free\n"
    assert (done.status, done.err) == (2, line)
    assert program("-m gptlab", "serve", str(tmp_path / "none")).err.endswith("such as outputs\n")


@contextmanager
def served(outputs: Path) -> Iterator[str]:
    """The address of a server in a process of its own."""
    command = [sys.executable, "-m", "gptlab", "serve", str(outputs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate(timeout=20)


def ask(address: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    """Status and text of an answer."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data=data), timeout=60) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.slow
def test_a_browser_sees_curves_reports_and_samples(tmp_path: Path):
    pytest.importorskip("uvicorn")
    run = finished(*tiny(tmp_path))
    evil = fake_run(tmp_path, "<script>document.title='caught'<", ROW, {**ROW, "step": 20})
    assert program("-m gptlab", "report", str(run)).status == 0
    with served(tmp_path) as address:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", address)
        base = address.rsplit("/", 2)[0]
        assert ask(f"{base}/overview")[0] == ask(f"{base}/wrong/overview")[0] == 404
        assert ask(f"{address}report/runs/..%2f..")[0] == 404
        assert "<title>" in ask(f"{address}report/runs/{run.name}")[1]
        asked = {"run": run.name, "prompt": "the ", "length": 7, "temperature": 0}
        assert len(ask(f"{address}sample", asked)[1]) == len("the ") + 7 + 1
        assert ask(f"{address}sample", {**asked, "length": 10**6})[0] == 400
        chromium = shutil.which("chromium")
        if chromium is None:
            pytest.skip("no chromium: apt-get install chromium")
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
        marked = urllib.request.quote(f"{run.name} {evil.name}")  # type: ignore[attr-defined]
        flags += ["--window-size=400,2000", "--virtual-time-budget=6000", "--dump-dom", f"{address}#{marked}"]
        dom = subprocess.run([chromium, *flags], capture_output=True, text=True, timeout=90).stdout
    assert "<title>gptlab, live</title>" in dom
    assert "&lt;script&gt;document" in dom
    assert 'data-last="40"' in dom
    assert 'data-last="20"' in dom
    assert f'href="report/runs/{run.name}"' in dom
