"""A stand-in for Slurm's commands, on one machine: jobs are processes, and signals go where Slurm sends them.

`install_commands(folder)` writes sbatch, srun, squeue, scontrol, scancel and sacct into a folder for PATH. As with
Slurm: `scancel --signal` reaches the steps alone, a cancelled or requeued job gets SIGTERM whole and SIGKILL after a
while, a requeued one runs again with SLURM_RESTART_COUNT, and a SIGTERM to srun itself kills its tasks
(https://slurm.schedmd.com/scancel.html, sbatch.html, srun.html). Jobs and tasks are files in `folder/jobs`.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "scancel", "sacct")
KILL_WAIT = 60.0
"""Seconds from SIGTERM to SIGKILL; Slurm's default is 30, and this machine may be busy."""


def install_commands(folder: Path) -> Path:
    """Write the commands into <folder>/bin and return that."""
    (folder / "bin").mkdir(parents=True)
    (folder / "jobs").mkdir()
    for name in COMMANDS:
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} {folder}/jobs "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / "bin" / "python").chmod(0o755)
    return folder / "bin"


def read_options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the options `--name=value` and `--name value` in front, and what follows them."""
    options, rest = {}, [*words]
    while rest and rest[0].startswith("-"):
        name, equals, value = rest.pop(0).lstrip("-").partition("=")
        flag = name in ("unbuffered", "requeue", "noheader", "parsable2", "batch")
        options[name] = value if equals else "" if flag else rest.pop(0)
    return options, rest


def read_job(jobs: Path, job: str) -> dict:
    """Return what is known of a job."""
    return json.loads((jobs / f"{job}.json").read_text())


def write_job(jobs: Path, job: str, **facts: object) -> None:
    """Change what is known of a job."""
    path = jobs / f"{job}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.with_suffix(".part").write_text(json.dumps({**known, **facts}))
    path.with_suffix(".part").replace(path)


def signal_steps(jobs: Path, job: str, number: int) -> None:
    """Send a signal to every task of a job's steps."""
    for path in jobs.glob(f"{job}.task*"):
        try:
            os.kill(int(path.read_text()), number)
        except ProcessLookupError:
            path.unlink(missing_ok=True)


def sbatch(jobs: Path, words: list[str]) -> None:
    """Start a job, or the tasks of an array one after another, in the background."""
    options, (script, *args) = read_options(words)
    lines = re.findall(r"^#SBATCH (.+)$", Path(script).read_text(), re.M)
    options = {**read_options([word for line in lines for word in shlex.split(line)])[0], **options}
    number = str(1 + len([*jobs.glob("*.array")]) + os.getpid() * 100)
    (jobs / f"{number}.array").touch()
    last = re.fullmatch(r"0-(\d+)%\d+", options.get("array", ""))
    names = [f"{number}_{index}" for index in range(int(last[1]) + 1)] if last else [number]
    for name in names:
        write_job(jobs, name, state="PENDING")
    print(f"Submitted batch job {number}", flush=True)
    command = [sys.executable, __file__, "slurmd", str(jobs), json.dumps(options), ",".join(names), script, *args]
    null = subprocess.DEVNULL
    subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True)


def slurmd(jobs: Path, words: list[str]) -> None:
    """Run the jobs of an array to their ends."""
    options, names, script, *args = words
    for name in names.split(","):
        while run_job(jobs, name, json.loads(options), [script, *args]):
            pass


def run_job(jobs: Path, job: str, options: dict[str, str], command: list[str]) -> bool:
    """Run a job once; return whether it is to be run again."""
    if (facts := read_job(jobs, job))["state"] != "PENDING":
        return False
    tasks, array = options.get("ntasks-per-node"), job.partition("_")
    environment = {"SLURM_JOB_ID": job, "SLURM_JOB_NAME": options.get("job-name", "job"), "SLURM_JOB_NUM_NODES": "1"}
    environment |= {"SLURM_JOB_NODELIST": "localhost", "SLURM_NODELIST": "localhost"}
    environment |= {"SLURM_NTASKS_PER_NODE": tasks, "SLURM_NTASKS": tasks} if tasks else {}
    environment |= {"SLURM_ARRAY_JOB_ID": array[0], "SLURM_ARRAY_TASK_ID": array[2]} if array[1] else {}
    environment |= {"SLURM_CPUS_PER_TASK": options["cpus-per-task"]} if "cpus-per-task" in options else {}
    environment |= {"SLURM_RESTART_COUNT": str(facts["restarts"])} if facts.get("restarts") else {}
    output = name_output(options.get("output", "slurm-%j.out"), job, options.get("job-name", "job"))
    with open(output, "a") as file:
        process = subprocess.Popen(
            ["bash", *command], stdout=file, stderr=file, env={**os.environ, **environment}, start_new_session=True
        )
        write_job(jobs, job, state="RUNNING", pid=process.pid)
        while process.poll() is None:
            if (state := read_job(jobs, job)["state"]) in ("COMPLETING", "REQUEUED"):
                end_job(jobs, job, process)
            time.sleep(0.05)
    state = read_job(jobs, job)["state"]
    if state == "REQUEUED":
        write_job(jobs, job, state="PENDING", restarts=facts.get("restarts", 0) + 1)
        return True
    ended = "COMPLETED" if process.returncode == 0 else "FAILED"
    write_job(jobs, job, state="CANCELLED" if state == "COMPLETING" else ended, status=process.returncode)
    return False


def end_job(jobs: Path, job: str, process: "subprocess.Popen[bytes]") -> None:
    """End a job: SIGTERM to its steps and its script, SIGKILL to what is left of them after a while."""
    signal_steps(jobs, job, signal.SIGTERM)
    os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + KILL_WAIT
    while time.monotonic() < deadline and (process.poll() is None or [*jobs.glob(f"{job}.task*")]):
        time.sleep(0.05)
    signal_steps(jobs, job, signal.SIGKILL)
    if process.poll() is None:
        process.kill()
        process.wait()


def srun(jobs: Path, words: list[str]) -> None:
    """Run the tasks of a step, and end with the highest of their statuses."""
    options, command = read_options(words)
    job, count = os.environ["SLURM_JOB_ID"], int(options.get("ntasks", os.environ.get("SLURM_NTASKS", "1")))
    processes = []
    for rank in range(count):
        environment = {"SLURM_NTASKS": str(count), "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
        environment |= {"SLURM_NODEID": "0", "SLURM_STEP_ID": "0"}
        output = options.get("output")
        file = open(name_output(output, job, "", rank), "a") if output else None  # noqa: SIM115
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=file, stderr=file)
        (jobs / f"{job}.task{rank}").write_text(str(process.pid))
        processes.append(process)

    def kill_tasks(number: int, frame: object) -> None:
        for process in processes:
            process.kill()

    signal.signal(signal.SIGTERM, kill_tasks)
    statuses = []
    for rank, process in enumerate(processes):
        status = process.wait()
        (jobs / f"{job}.task{rank}").unlink(missing_ok=True)
        statuses.append(status if status >= 0 else 128 - status)
    sys.exit(max(statuses))


def name_output(pattern: str, job: str, name: str, rank: int = 0) -> str:
    """Return the file of a pattern of Slurm's."""
    main, _, index = job.partition("_")
    for mark, value in {"%A": main, "%a": index, "%j": job, "%x": name, "%t": str(rank)}.items():
        pattern = pattern.replace(mark, value)
    return pattern


def squeue(jobs: Path, words: list[str]) -> None:
    """Print the state of a job, as --noheader --format=%T does."""
    state = read_job(jobs, read_options(words)[0]["jobs"])["state"]
    print("COMPLETING" if state == "REQUEUED" else state)


def scontrol(jobs: Path, words: list[str]) -> None:
    """Requeue a job."""
    assert words[0] == "requeue", words
    write_job(jobs, words[1], state="REQUEUED")


def scancel(jobs: Path, words: list[str]) -> None:
    """Cancel a job, or send its steps a signal."""
    options, (job,) = read_options(words)
    if "signal" in options:
        signal_steps(jobs, job, signal.Signals[f"SIG{options['signal'].removeprefix('SIG')}"])
    else:
        write_job(jobs, job, state="COMPLETING")


def sacct(jobs: Path, words: list[str]) -> None:
    """Print the states of all jobs, as --parsable2 -o JobID,State,NodeList does."""
    print("JobID|State|NodeList")
    for path in jobs.glob("*.json"):
        print(f"{path.stem}|{json.loads(path.read_text())['state']}|localhost")


if __name__ == "__main__":
    name, folder, *rest = sys.argv[1:]
    {one.__name__: one for one in (sbatch, slurmd, srun, squeue, scontrol, scancel, sacct)}[name](Path(folder), rest)
