"""Several cells at once, in worker processes of our own: the same numbers, and no death that hangs a study."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked_process import Forked, run_forked
from omegaconf import OmegaConf
from tiny_runs import COMPARED, ROOT, Done, program, tiny

from gptlab import compose as wiring
from gptlab.ablation import jobs as jobs_module
from gptlab.ablation import pool as pool_module
from gptlab.ablation.cost import CostEstimator
from gptlab.ablation.gpu_share import limit_to_share
from gptlab.ablation.jobs import (
    choose_jobs,
    count_fitting_cells,
    estimate_cell_memory,
    estimate_wall_time,
    limit_by_memory,
)
from gptlab.ablation.pool import describe_exit
from gptlab.ablation.question import parse_command
from gptlab.config.recipe import Recipe
from gptlab.runs import machine
from gptlab.runs.study_folder import StudyFolder, is_held
from hydra_plugins.gptlab_ablation.sweeper import AblationSweeper

STUDY = ["model.heads=2", "steps=12", "save_every=3", "metric=[bits_per_byte]", "timing=0", "seeds=2"]
AXIS = "attention=mha,gqa"
LONG = ["steps=4000", "evaluation.every=5000", "log_every=20", "save_every=20"]
"""Some seconds a cell, so that it can be met at work."""


def words(pool: Path, *more: str) -> list[str]:
    """The overrides of a tiny study."""
    given = {word.partition("=")[0] for word in more}
    return [*(word for word in [*tiny(pool), *STUDY] if word.partition("=")[0] not in given), *more]


def ablate(pool: Path, *more: str) -> Done:
    """python ablate.py, whose own process is this one."""
    return program("ablate.py", *words(pool, AXIS, *more))


def start(pool: Path, *more: str) -> Forked:
    """python ablate.py, in a process group of its own."""
    return Forked("ablate.py", *words(pool, AXIS, *more), new_session=True)


def find_study(pool: Path) -> StudyFolder:
    """The only study of a pool."""
    (file,) = (pool / "ablations").glob("*/study.json")
    return StudyFolder(file.parent)


def wait_for(condition: Callable[[], Any], seconds: float = 90) -> Any:
    """The first value of a condition that is true."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"nothing came of {condition} in {seconds} s")


def find_workers(pool: Path) -> dict[str, int]:
    """The process of each cell that has saved a checkpoint and is at work, by its lock."""
    owners = {}
    for path in (pool / "locks").glob("nano*.lock"):
        folders = [*(pool / "runs").glob(f"{path.stem}*/checkpoints/last.ckpt")]
        pid = re.search(r"process (\d+)", path.read_text())
        if pid and folders and is_held(path):
            owners[path.stem] = int(pid[1])
    return owners


def is_alive(pid: int) -> bool:
    """Whether a process is there."""
    return Path(f"/proc/{pid}").exists()


def compare(pool: Path) -> Any:
    """comparison.json without what clocks, memory and paths say."""
    comparison = json.loads((find_study(pool).path / "comparison.json").read_text())
    (stratum,) = comparison["strata"]
    measured = ("time/", "throughput/", "memory/")
    return {
        "comparisons": [
            drop(one, "more_minutes") for one in stratum["comparisons"] if not one["metric"]["key"].startswith(measured)
        ],
        "answer": [one["text"] for one in stratum["answer"]],
        "runs": [
            {**run, "values": {k: v for k, v in run["values"].items() if not k.startswith(measured)}}
            for run in comparison["runs"]
        ],
    }


def drop(value: Any, key: str) -> Any:
    """Plain data without a key, at any depth."""
    if isinstance(value, dict):
        return {name: drop(inner, key) for name, inner in value.items() if name != key}
    return [drop(inner, key) for inner in value] if isinstance(value, list) else value


# -- how many


def make_recipe(**trainer: Any) -> Recipe:
    return Recipe({"trainer": {"accelerator": "cpu", "devices": 1, "nodes": 1, "threads": 1, **trainer}})


def test_auto_gives_a_core_to_every_thread_of_a_cell(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jobs_module, "count_cores", lambda: 12)
    assert count_fitting_cells(make_recipe()) == 12
    assert count_fitting_cells(make_recipe(threads=5)) == 2
    assert count_fitting_cells(make_recipe(threads=2, devices=3)) == 2
    assert count_fitting_cells(make_recipe(threads=None)) == 1
    assert choose_jobs("auto", [make_recipe(), make_recipe(threads=4)]) == 3
    assert choose_jobs("auto", [make_recipe(threads=13)]) == 1
    assert choose_jobs(7, [make_recipe()]) == 7


def test_auto_gives_a_gpu_to_every_cell(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    assert choose_jobs("auto", [make_recipe(accelerator="auto")]) == 5
    assert choose_jobs("auto", [make_recipe(accelerator="gpu", devices=2)]) == 2


def test_a_containers_quota_of_cores_and_memory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    unlimited = machine.count_cores()
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.count_cores() == unlimited
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert machine.count_cores() == 1
    for name, text in {"max": "1000", "current": "700", "stat": "anon 1\ninactive_file 200\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert machine.read_available_memory() == 500


def test_a_launchers_cells_share_the_cores_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delitem(sys.modules, "torch", raising=False)  # a launcher's process has not imported it yet
    limit_to_share(4, tmp_path)
    assert os.environ["OMP_NUM_THREADS"] == "1"
    sweeper = AblationSweeper()
    for launcher, knobs in {"joblib": {"n_jobs": -1}, "submitit_local": {"cpus_per_task": 1}, "ray": {}}.items():
        sweeper.hydra = OmegaConf.create({"launcher": knobs, "runtime": {"choices": {"hydra/launcher": launcher}}})
        assert sweeper.jobs() == 1, launcher


def test_jobs_that_do_not_fit_into_memory_are_not_started(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jobs_module, "read_available_memory", lambda: 7 * 10**9)
    assert limit_by_memory(3, 2e9) == (3, "")
    assert limit_by_memory(5, 2e9) == (3, "3 at once, not 5: one takes about 2.0 GB and 7.0 GB are free")
    assert limit_by_memory(5, 9e9).count == 1
    monkeypatch.setattr(jobs_module, "read_available_memory", lambda: None)
    assert limit_by_memory(5, 9e9) == (5, "")


def test_a_cell_holds_the_weights_and_moments_of_one_arm():
    assert estimate_cell_memory([100, 300], peak_bytes=1600 + 4800 + 5000) == 4800 + 5000


def test_the_wall_time_is_that_of_the_last_cell_to_end():
    assert estimate_wall_time([3, 5, 2, 7], 1) == 17
    assert estimate_wall_time([3, 5, 2, 7], 2) == 12  # 3, 2, 7 beside 5
    assert estimate_wall_time([3, 5, 2, 7], 9) == 7
    assert estimate_wall_time([], 2) == 0


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to a core")
def test_a_worker_has_all_cores():
    # forked from a process with a worker's imports, as workers are
    done = run_forked("-c", "import os, torch; torch.ones(9).exp(); print(sorted(os.sched_getaffinity(0)))")
    assert json.loads(done.stdout) == sorted(os.sched_getaffinity(0)), done.stderr


# -- the same table


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a study lives whose cells ran one after another."""
    pool = tmp_path_factory.mktemp("alone")
    assert ablate(pool, "jobs=1").status in COMPARED
    return pool


def test_the_table_is_the_same_whatever_jobs_is(alone: Path, tmp_path: Path):
    done = ablate(tmp_path, "jobs=2")
    assert done.status in COMPARED, done.err
    assert "2 at once" in done.out
    assert compare(tmp_path) == compare(alone)
    processes = {json.loads((run / "run.json").read_text())["command"] for run in (tmp_path / "runs").iterdir()}
    # of the study, not of a worker, and as it was typed
    assert all("ablate.py" in command and "--multirun" not in command for command in processes)


def test_a_launcher_has_jobs_of_its_own(tmp_path: Path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    done = ablate(tmp_path, "jobs=2", "hydra/launcher=joblib")
    assert (done.status, "jobs=2 does not go with a hydra/launcher" in done.err) == (2, True)
    done = ablate(tmp_path, "jobs=0")
    assert (done.status, done.err) == (2, "error: jobs=0 runs nothing; give 1 or more, or auto\n")


# -- what goes wrong


@pytest.mark.thorough
def test_a_worker_that_is_killed_is_one_failed_cell(tmp_path: Path):
    study = start(tmp_path, *LONG[1:], "steps=1000", "jobs=2", "seeds=[0,1]")  # three cells come to their end
    owners = wait_for(lambda: len(found := find_workers(tmp_path)) == 2 and found)
    victim = next(key for key in owners if "gqa" in key)
    os.kill(owners[victim], signal.SIGKILL)
    out, err = study.communicate(timeout=180)
    assert study.returncode == 1, out + err
    states = find_study(tmp_path).read_states()
    assert {key: state.status for key, state in states.items() if key and key != victim} == dict.fromkeys(
        set(find_study(tmp_path).plan.cells) - {victim}, "finished"
    )
    assert states[victim].status == "failed"
    assert states[victim].reason == describe_exit(-signal.SIGKILL)
    assert "failed: its process was killed (SIGKILL)" in out


@pytest.mark.thorough
@pytest.mark.few(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_signal_to_the_study_stops_all_workers_and_the_same_command_goes_on(tmp_path: Path, number: signal.Signals):
    study = start(tmp_path, *LONG, "jobs=2", "seeds=1")
    owners = wait_for(lambda: len(found := find_workers(tmp_path)) == 2 and found)
    if number == signal.SIGINT:
        os.killpg(study.pid, number)  # as a terminal does
    else:
        study.send_signal(number)
    out, err = study.communicate(timeout=180)
    assert study.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -number), out + err
    wait_for(lambda: not any(map(is_alive, owners.values())))
    folder = find_study(tmp_path)
    assert {folder.read_states()[key].status for key in owners} == {"stopped"}
    assert not any((run / "summary.json").exists() for run in folder.pool.iterdir())
    by_workers = {event["key"] for event in folder.read_events() if event["status"] == "stopped"}
    assert by_workers == {*owners}
    if number != signal.SIGKILL:
        assert "stopped: 0 of 2 cells done; the same command goes on" in err


# -- what a study need not do again


def test_a_signal_that_a_worker_overlooks_does_not_hang_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pool = pool_module.CellPool(1, StudyFolder(tmp_path / "ablations" / "study"), print)
    worker = pool._start_worker()  # which waits for a cell, as behind a run that was at its end
    monkeypatch.setattr(pool, "_signal_workers", lambda number: None)
    stopping = threading.Thread(target=pool._stop, daemon=True)
    stopping.start()
    stopping.join(timeout=60)
    try:
        assert not stopping.is_alive()
    finally:
        worker.process.kill()


@pytest.mark.thorough
def test_repeating_a_finished_study_needs_no_torch(alone: Path):
    check = (
        "import runpy, sys; sys.argv[0] = 'ablate.py'\n"
        "from multiprocessing import forkserver\n"
        "try:\n"
        "    runpy.run_path('ablate.py', run_name='__main__')\n"
        "finally:\n"  # the program ends in SystemExit where nothing is resolved
        "    print('imported', {'torch', 'lightning'} & {*sys.modules}, forkserver._forkserver._forkserver_pid)"
    )
    command = [sys.executable, "-c", check, *words(alone, AXIS, "jobs=2")]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stderr  # 3: not resolved
    assert "4 done, 0 to run" in done.stdout
    assert done.stdout.endswith("imported set() None\n")


def test_workers_import_while_arms_are_checked_if_there_are_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    events: list[str] = []
    monkeypatch.setattr(pool_module, "start_server", lambda: events.append("server"))
    monkeypatch.setattr(wiring, "check_recipe", lambda recipe: events.append("check") or [])

    def list_events(**fixed: str) -> list[str]:
        events.clear()
        words = {key: f"{key}={value}" for key, value in {"outputs": str(tmp_path), **fixed}.items()}
        parse_command({"attention": ["mha", "gqa"]}, words, pooled=True)
        return [*events]

    assert list_events(jobs="2") == ["server", "check", "check"]
    assert list_events(jobs="1") == list_events(jobs="2", dry_run="true") == ["check", "check"]


def test_a_study_samples_little_and_a_recipe_by_name_as_it_says():
    def read_sample(**fixed: str) -> tuple[int, int]:
        base = parse_command({"seed": ["0"]}, {key: f"{key}={value}" for key, value in fixed.items()}).base
        return base.settings.sample.count, base.settings.sample.length

    assert read_sample() == (20, 50)
    assert read_sample(experiment="gpt2") == (50, 100)
    assert parse_command({"seed": ["0"]}, {"sample.count": "sample.count=7"}).base.settings.sample.count == 7


def test_of_many_arms_the_baseline_alone_is_timed_for_the_bill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    timed: list[list[str]] = []
    true = CostEstimator.time_steps

    def note(self: CostEstimator, recipes: dict[str, Recipe], rounds: int = 5) -> dict[str, float]:
        timed.append([*recipes])
        return true(self, recipes, 1)

    monkeypatch.setattr(CostEstimator, "time_steps", note)
    hidden = "mlp.hidden=16,24,32,40,48,56,64,72,80"
    done = program("ablate.py", *words(tmp_path, hidden, "seeds=1", "dry_run=true"))
    assert done.status == 0, done.err
    assert [len(arms) for arms in timed] == [1]
    assert done.out.count("about ") == 8 + 1  # arms, and the bill's sum
