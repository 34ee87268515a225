"""How long a large study's page takes, in a process of its own: 200 runs of 5,000 rows each, forty arms by five seeds.

    python benchmarks/report.py [--arms 40] [--seeds 5] [--rows 5000]

A real study, each cell trained for two steps (which takes minutes); then its rows are replaced by as many as asked for,
drawn about a curve. Prints seconds of `gptlab report`, on the clock and of CPU, its peak memory, and
megabytes of the page.
"""

import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Make the study, then its page, and print what the page took."""
    parser = argparse.ArgumentParser()
    for name, default in (("arms", 40), ("seeds", 5), ("rows", 5000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = make_study(Path(place), arms=given.arms, seeds=given.seeds, rows=given.rows)
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "gptlab", "report", str(folder)], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        seconds, peak = time.perf_counter() - start, used.ru_maxrss / 2**20
        cpu = used.ru_utime + used.ru_stime
        assert status == 0, "no page was made"
        size = (folder / "report.html").stat().st_size / 1e6
    runs = given.arms * given.seeds
    print(
        f"{runs} runs x {given.rows:,} rows: {seconds:.1f} s ({cpu:.1f} of CPU), "
        f"at most {peak:.2f} GiB, a page of {size:.1f} MB"
    )


def make_study(place: Path, arms: int, seeds: int, rows: int) -> Path:
    """Run a study of tiny runs, give each so many rows, and return its folder."""
    rates = ",".join(f"{1e-3 * (1 + arm / 100):.5f}" for arm in range(arms))
    few = ["model=nano", "steps=2", "model.context=16", "evaluation.tokens=64", "sample.count=1", "tracking=disabled"]
    command = [sys.executable, "ablate.py", f"outputs={place}", *few, "metric=[perplexity]", "timing=0"]
    completed = subprocess.run(
        [*command, f"model.lr={rates}", f"seeds={seeds}", "name=large"], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    assert completed.returncode in (0, 3), "no study was made"  # 3: not all is resolved
    for number, path in enumerate(sorted((place / "runs").glob("*/metrics.jsonl"))):
        path.write_text(make_history(number, rows))
    shutil.rmtree(place / "wandb", ignore_errors=True)
    return place / "ablations" / "large"


def make_history(number: int, rows: int) -> str:
    """Return rows as a run logs them: a training row each ten steps, an evaluation each tenth of those."""
    noise, lines = random.Random(number), []
    for index in range(1, rows + 1):
        loss = 1.5 + 2.5 * math.exp(-index / 400) + noise.gauss(0, 0.02)
        row = {"step": 10 * index, "tokens": 10_240 * index, "train/loss": loss, "train/gradient_norm": 1.0, "lr": 1e-3}
        row |= {"time/step_ms": 10 + noise.random(), "throughput/tokens_per_s": 1e5}
        row |= {"val/loss": loss + 0.1, "time/evaluate_s": 0.4} if index % 10 == 0 else {}
        lines.append(json.dumps(row))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
