"""How long a large study's page takes, in a process of its own: 200 runs of 5,000 rows each, forty arms by five seeds.

    python benchmarks/report.py [arms=40] [seeds=5] [rows=5000]

A real study, each cell trained for two steps (which takes minutes); then its rows are replaced by as many as asked for,
drawn about a curve. Prints seconds of `gptlab report`, on the clock and of CPU, its peak memory, and
megabytes of the page.
"""

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
    """Makes the study, then its page."""
    asked = {"arms": 40, "seeds": 5, "rows": 5000} | {
        name: int(value) for name, value in (word.split("=") for word in sys.argv[1:])
    }
    with tempfile.TemporaryDirectory() as place:
        folder = study(Path(place), **asked)
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "gptlab", "report", str(folder)], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        seconds, peak = time.perf_counter() - began, used.ru_maxrss / 2**20
        cpu = used.ru_utime + used.ru_stime
        assert status == 0, "no page was made"
        size = (folder / "report.html").stat().st_size / 1e6
    runs = asked["arms"] * asked["seeds"]
    print(
        f"{runs} runs x {asked['rows']:,} rows: {seconds:.1f} s ({cpu:.1f} of CPU), "
        f"at most {peak:.2f} GiB, a page of {size:.1f} MB"
    )


def study(place: Path, arms: int, seeds: int, rows: int) -> Path:
    """A study's folder with that many runs, all of them finished."""
    rates = ",".join(f"{1e-3 * (1 + arm / 100):.5f}" for arm in range(arms))
    few = ["model=nano", "steps=2", "model.context=16", "evaluation.tokens=64", "sample.count=1", "tracking=disabled"]
    command = [sys.executable, "ablate.py", f"outputs={place}", *few, "metric=[perplexity]", "timing=0"]
    made = subprocess.run(
        [*command, f"model.lr={rates}", f"seeds={seeds}", "name=large"], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    assert made.returncode in (0, 3), "no study was made"  # 3: not all is resolved
    for number, path in enumerate(sorted((place / "runs").glob("*/metrics.jsonl"))):
        path.write_text(history(number, rows))
    shutil.rmtree(place / "wandb", ignore_errors=True)
    return place / "ablations" / "large"


def history(number: int, rows: int) -> str:
    """Rows as a run logs them: a training row each ten steps, an evaluation each tenth of those."""
    noise, lines = random.Random(number), []
    for at in range(1, rows + 1):
        loss = 1.5 + 2.5 * math.exp(-at / 400) + noise.gauss(0, 0.02)
        row = {"step": 10 * at, "tokens": 10_240 * at, "train/loss": loss, "train/gradient_norm": 1.0, "lr": 1e-3}
        row |= {"time/step_ms": 10 + noise.random(), "throughput/tokens_per_s": 1e5}
        row |= {"val/loss": loss + 0.1, "time/evaluate_s": 0.4} if at % 10 == 0 else {}
        lines.append(json.dumps(row))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
