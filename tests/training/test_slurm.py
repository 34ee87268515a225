"""examples/slurm.sbatch under a stand-in for Slurm: preempted, requeued and resumed, it computes what it would have."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stand_in_slurm import install_commands, read_job
from tiny_runs import COMPARED, ROOT, finished, numbers, program, start_anew, tiny

SCRIPT = ROOT / "examples" / "slurm.sbatch"
LONG = ["steps=400", "dropout=0.1", "sample.count=2"]


class Cluster:
    """A machine whose PATH has the stand-in."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.jobs = folder, folder / "jobs"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
        path = f"{install_commands(folder)}:{os.environ['PATH']}"
        self.environment = {**environment, "PATH": path, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}

    def run(self, *words: str) -> str:
        """A command's output."""
        command = [self.folder / "bin" / words[0], *words[1:]]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, *words: str, tasks: int = 1) -> str:
        """The number of a job of the script."""
        return self.run("sbatch", f"--ntasks-per-node={tasks}", "--cpus-per-task=1", str(SCRIPT), *words).split()[-1]

    def wait(self, job: str, over: Callable[[], Any], seconds: float = 240) -> None:
        """Wait until something holds of a job."""
        end = time.monotonic() + seconds
        while not over():
            assert time.monotonic() < end, self.told(job)
            time.sleep(0.05)

    def wait_for_end(self, job: str) -> dict[str, Any]:
        """What is known of a job that has ended."""
        self.wait(job, lambda: read_job(self.jobs, job)["state"] in ("COMPLETED", "FAILED", "CANCELLED"))
        return read_job(self.jobs, job)

    def told(self, job: str) -> str:
        """What a job printed."""
        file = self.folder / f"gptlab-{job}.txt"
        return file.read_text() if file.exists() else "nothing"


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """A stand-in of this test's own."""
    return Cluster(tmp_path / "cluster")


def test_the_script_is_one_that_bash_reads():
    assert subprocess.run(["bash", "-n", SCRIPT], capture_output=True, text=True).stderr == ""


@pytest.mark.parametrize(
    ("status", "state", "again"),
    [
        (143, "RUNNING", True),
        (138, "RUNNING", True),
        (143, "COMPLETING", False),  # cancelled
        (0, "RUNNING", False),
        (1, "RUNNING", False),
        (143, "RUNNING after 100", False),
    ],
)
def test_a_job_is_requeued_if_a_signal_stopped_it_and_nobody_cancelled_it(
    status: int, state: str, again: bool, tmp_path: Path
):
    state, _, restarts = state.partition(" after ")
    commands = {"srun": f'echo "$@" >step; exit {status}', "squeue": f"echo {state}", "scontrol": 'echo "$@" >again'}
    for name, line in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    told = {"SLURM_JOB_ID": "7", "SLURM_NTASKS_PER_NODE": "4", "SLURM_RESTART_COUNT": restarts or "0"}
    environment = {**os.environ, **told, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", SCRIPT, "train", "seed=1"], cwd=tmp_path, env=environment)
    assert done.returncode == status
    step = "python -m gptlab train resume=auto trainer=ddp trainer.devices=4 seed=1"
    assert (tmp_path / "step").read_text() == f"--kill-on-bad-exit=0 --ntasks=4 {step}\n"
    assert (tmp_path / "again").exists() == again
    assert not again or (tmp_path / "again").read_text() == "requeue 7\n"


def test_a_word_that_is_no_program_is_refused(tmp_path: Path):
    done = subprocess.run(["bash", SCRIPT, "run"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: run is neither train nor ablate; say sbatch examples/slurm.sbatch train or")


# -- for real


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run computes that nobody interrupts."""
    return numbers(finished(*tiny(tmp_path_factory.mktemp("whole"), *LONG)))


def preempt(cluster: Cluster, job: str, pool: Path, signal: str) -> None:
    """Send the steps of a job a signal once they have written rows."""
    cluster.wait(job, lambda: [*pool.glob("runs/*/metrics.jsonl")])
    time.sleep(0.3)
    cluster.run("scancel", f"--signal={signal}", job)


@pytest.mark.slow
@pytest.mark.parametrize("signal", ["TERM", "USR1"])
def test_a_run_that_is_preempted_is_requeued_and_ends_as_if_it_had_not_been(
    signal: str, whole: dict[str, Any], cluster: Cluster, tmp_path: Path
):
    job = cluster.submit("train", *tiny(tmp_path / "pool", *LONG))
    preempt(cluster, job, tmp_path / "pool", signal)
    facts = cluster.wait_for_end(job)
    assert (facts["state"], facts.get("restarts")) == ("COMPLETED", 1), cluster.told(job)
    (folder,) = (tmp_path / "pool" / "runs").iterdir()
    assert f"stopped by SIG{signal} after step" in cluster.told(job)
    assert "going on from step" in cluster.told(job)
    assert not [*tmp_path.rglob("hpc_ckpt*")]  # what Lightning makes of SIGUSR1 under Slurm
    assert numbers(folder) == whole


@pytest.mark.slow
def test_a_run_that_is_cancelled_saves_and_stays_stopped(cluster: Cluster, tmp_path: Path):
    job = cluster.submit("train", *tiny(tmp_path / "pool", *LONG))
    cluster.wait(job, lambda: [*(tmp_path / "pool").glob("runs/*/metrics.jsonl")])
    cluster.run("scancel", job)
    facts = cluster.wait_for_end(job)
    assert (facts["state"], facts.get("restarts")) == ("CANCELLED", None), cluster.told(job)
    (folder,) = (tmp_path / "pool" / "runs").iterdir()
    assert not (folder / "summary.json").exists()
    assert "stopped by SIGTERM after step" in cluster.told(job)


@pytest.mark.slow
def test_two_processes_are_preempted_and_requeued(cluster: Cluster, tmp_path: Path):
    words = ["steps=100", "trainer.accelerator=cpu", "trainer.threads=1"]
    job = cluster.submit("train", *tiny(tmp_path / "pool", *words), tasks=2)
    preempt(cluster, job, tmp_path / "pool", "TERM")
    facts = cluster.wait_for_end(job)
    assert (facts["state"], facts.get("restarts")) == ("COMPLETED", 1), cluster.told(job)
    (folder,) = (tmp_path / "pool" / "runs").iterdir()
    plain = start_anew(*tiny(tmp_path / "plain", *words, "trainer=ddp", "trainer.devices=2"))
    plain.communicate(timeout=240)
    assert plain.returncode == 0
    (uninterrupted,) = (tmp_path / "plain" / "runs").iterdir()
    assert numbers(folder) == numbers(uninterrupted)


AXIS = ["attention=mha,gqa", "seeds=2", "timing=0", "steps=300"]


def read_losses(pool: Path) -> dict[str, float]:
    """The final losses of a pool's runs."""
    files = [*pool.glob("runs/*/summary.json")]
    assert files
    return {file.parent.name: json.loads(file.read_text())["val/loss"] for file in files}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The losses of a study that nobody interrupts."""
    pool = tmp_path_factory.mktemp("study")
    assert program("ablate.py", *tiny(pool), *AXIS, "jobs=2").status in COMPARED
    return read_losses(pool)


@pytest.mark.slow
def test_a_study_that_is_preempted_is_requeued_and_has_the_same_table(
    table: dict[str, float], cluster: Cluster, tmp_path: Path
):
    job = cluster.submit("ablate", *tiny(tmp_path / "pool"), *AXIS, "jobs=2")
    preempt(cluster, job, tmp_path / "pool", "TERM")
    facts = cluster.wait_for_end(job)
    assert facts["restarts"] == 1, cluster.told(job)
    assert facts["status"] in COMPARED, cluster.told(job)
    assert read_losses(tmp_path / "pool") == table


@pytest.mark.slow
def test_an_array_of_cells_by_submitit_is_requeued_and_has_the_same_table(
    table: dict[str, float], cluster: Cluster, tmp_path: Path
):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    pool = tmp_path / "pool"
    launcher = ["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=60", "hydra.launcher.cpus_per_task=1"]
    words = [*tiny(pool), *AXIS, "seeds=1", "trainer.threads=1", *launcher]
    command = [sys.executable, "ablate.py", *words]
    with subprocess.Popen(command, cwd=ROOT, env=cluster.environment, stdout=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 240
        while not [*pool.glob("runs/*/metrics.jsonl")]:
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.05)
        running = [path.stem for path in cluster.jobs.glob("*.json") if "RUNNING" in path.read_text()]
        cluster.run("scancel", "--signal=USR2", running[0])  # what submitit asks of Slurm before the limit
        process.communicate(timeout=400)
    assert read_job(cluster.jobs, running[0])["restarts"] == 1
    assert process.returncode in COMPARED
    losses = read_losses(pool)
    assert losses == {run: table[run] for run in losses}
