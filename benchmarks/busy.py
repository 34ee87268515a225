"""Measure what one busy neighbour does to a training step: Intel's OpenMP runtime, torch's own, one thread.

    python benchmarks/busy.py                       # model=micro; about a minute and a half
    python benchmarks/busy.py model=baby --rounds 5 --seconds 4

`fewer` is torch's own runtime with as many threads as a look at the machine's load leaves to a run that begins then.
Each kind is a process of its own that takes steps when it is told to; they take turns, alone and beside a neighbour
that keeps one core busy and ends by itself. Run it on an otherwise idle machine. The goals: `default` at most 2.5 times
slower beside the neighbour than alone, and alone within 3 % of torch's own runtime.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

KINDS = {
    "default": ({}, []),
    "torch's own": ({"GPTLAB_OPENMP": "torch"}, [f"trainer.threads={os.cpu_count()}"]),
    "fewer": ({"GPTLAB_OPENMP": "torch"}, []),
    "one thread": ({}, ["trainer.threads=1"]),
}
NEIGHBOUR = "import time; end = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"


def measure(seconds: float, overrides: list[str]) -> None:
    """In a child: take steps for some seconds at each line of the input, and print their median in milliseconds."""
    from gptlab.runs.openmp import load_openmp, name_runtime

    load_openmp()
    import torch

    from gptlab import compose as wiring
    from gptlab.corpus.load import read_corpus
    from gptlab.study.tools.timing import TrainingBench

    recipe = wiring.compose(overrides)
    bench = TrainingBench(recipe, read_corpus(recipe))
    for _ in range(3):
        bench.step()
    print(json.dumps({"runtime": name_runtime(), "threads": torch.get_num_threads()}), flush=True)
    for _ in sys.stdin:
        times, end = [], time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            bench.step()
            times.append((time.perf_counter() - start) * 1000)
        print(statistics.median(times), flush=True)


def start_child(environment: dict[str, str], seconds: float, overrides: list[str]) -> "subprocess.Popen[str]":
    """Start a process that waits for its turns."""
    return subprocess.Popen(
        [sys.executable, __file__, "measure", str(seconds), *overrides],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def read_line(child: "subprocess.Popen[str]") -> str:
    """Read a line of a child."""
    assert child.stdout is not None
    return child.stdout.readline()


def take_turn(child: "subprocess.Popen[str]") -> float:
    """Let a child measure once."""
    assert child.stdin is not None
    child.stdin.write("go\n")
    child.stdin.flush()
    return float(read_line(child))


def main() -> None:
    """Measure all kinds in turn and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("overrides", nargs="*", default=["model=micro"], help="of train.py")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn")
    given = parser.parse_args()
    overrides, rounds, seconds = given.overrides, given.rounds, given.seconds
    children = {name: start_child(env, seconds, [*overrides, *more]) for name, (env, more) in KINDS.items()}
    try:
        facts = {name: json.loads(read_line(child)) for name, child in children.items()}
        times = {name: {"alone": [], "beside": []} for name in children}
        for _ in range(rounds):
            for place in ("alone", "beside"):
                code = NEIGHBOUR.format(seconds=len(children) * (seconds + 30))  # bounded, whatever becomes of us
                neighbour = subprocess.Popen([sys.executable, "-c", code]) if place == "beside" else None
                try:
                    for name, child in children.items():
                        times[name][place].append(take_turn(child))
                finally:
                    if neighbour is not None:
                        neighbour.kill()
                        neighbour.wait()
    finally:
        for child in children.values():
            child.kill()
            child.wait()
    print(f"{' '.join(overrides)}: milliseconds a step, medians of {rounds} turns of {seconds:g} s")
    for name, by_place in times.items():
        alone, beside = (statistics.median(by_place[place]) for place in ("alone", "beside"))
        runtime = f"{facts[name]['runtime']}, {facts[name]['threads']} threads"
        ratio = f"alone {alone:8.1f}   beside a busy process {beside:8.1f}   x {beside / alone:.2f}"
        print(f"  {name:<12} {runtime:<18} {ratio}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(float(sys.argv[2]), sys.argv[3:])
    else:
        main()
