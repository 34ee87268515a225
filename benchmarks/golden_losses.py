"""Record the numbers of every choice of every slot, or compare them with an earlier record, bit for bit.

    python benchmarks/golden_losses.py record golden.json       # about 15 minutes on two cores
    python benchmarks/golden_losses.py compare golden.json      # exit 1 and a line for each case that differs

A change that is meant to move code and not numbers records before and compares after. Each case is 60 steps of
model=nano on one thread; besides them one run that is killed and resumed, one fine-tuning of an exported run, and one
small study. Bits depend on the processor and on torch's version, so records are not shared between machines.
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COMMON = [
    *("model=nano", "steps=60", "evaluation.every=30", "evaluation.tokens=2048", "log_every=10"),
    *("sample.count=2", "sample.length=40", "tracking=disabled", "trainer.threads=1"),
]
LIST_SLOTS = {"callback", "change", "metric"}
OWN_CASES = {
    "data": ["data=shakespeare", f"data=text data.path={ROOT}/LICENSE"],
    "tokenizer": ["tokenizer=char", "tokenizer=byte", "tokenizer=bpe", "tokenizer=gpt2"],
    "model": ["model=nano", "model=micro steps=10", "model=mini steps=4"],
    "trainer": ["trainer=cpu", "trainer=ddp trainer.accelerator=cpu"],
    "pretrained": [],  # see `finetune_exported`
    "tracking": [],
    "study": [],
    "hydra": [],
}
"""Slots of which some choices need the network, a GPU, or hours."""
VOLATILE = re.compile(
    r"^(time|throughput|memory)/|step_ms|_s$|seconds|minutes|hash|^(started|ended|id|code|git|cwd|command)$"
)
"""Keys that change between two runs of the same numbers."""


def list_cases() -> list[str]:
    """Return the overrides of every case, one text each."""
    cases = []
    for folder in sorted(path for path in (ROOT / "conf").iterdir() if path.is_dir()):
        slot = folder.name
        if slot in OWN_CASES:
            cases += OWN_CASES[slot]
            continue
        for name in sorted(file.stem for file in folder.glob("*.yaml")):
            if slot == "format":
                cases.append(f"change=[quantize] format@change.quantize.weight={name}")
            elif slot == "experiment":
                cases.append(f"experiment={name} data=shakespeare trainer=cpu trainer.threads=1")
            else:
                cases.append(f"{slot}=[{name}]" if slot in LIST_SLOTS else f"{slot}={name}")
    return cases


def run_command(*words: str) -> str:
    """Run a command of the project; return its last line, or its error."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        return f"exit {done.returncode}: {done.stderr.strip().splitlines()[-1]}"
    return done.stdout.strip().splitlines()[-1]


def strip_volatile(value: Any) -> Any:
    """Leave out of nested JSON what a clock, a path or a code fingerprint says."""
    if isinstance(value, dict):
        return {key: strip_volatile(item) for key, item in value.items() if not VOLATILE.search(key)}
    return [strip_volatile(item) for item in value] if isinstance(value, list) else value


def read_numbers(folder: Path) -> dict[str, Any]:
    """Return what a finished run computed: rows, samples, and the losses and counts of its summary."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    summary = json.loads((folder / "summary.json").read_text())
    return {
        "rows": [strip_volatile(json.loads(line)) for line in lines],
        "samples": [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()],
        "summary": {k: v for k, v in strip_volatile(summary).items() if isinstance(v, int | float | str | None)},
    }


def train(case: str, outputs: Path) -> Any:
    """Train one case; return its numbers, or the line with which it was refused."""
    line = run_command("train.py", *COMMON, *case.split(), f"outputs={outputs}")
    return read_numbers(Path(line)) if Path(line).is_dir() else line


def resume_killed_run(outputs: Path) -> Any:
    """Kill a run after its first checkpoint, go on with it, and return its numbers."""
    command = [sys.executable, "train.py", *COMMON, "seed=7", "save_every=5", f"outputs={outputs}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(outputs.glob("runs/*/checkpoints/last.ckpt")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (folder,) = outputs.glob("runs/*")
    assert not (folder / "summary.json").exists(), "the run ended before it was killed"
    run_command("train.py", f"resume={folder}")
    return read_numbers(folder)


def finetune_exported(outputs: Path) -> Any:
    """Export a run as a Hugging Face checkpoint, train it further, and return the numbers of that."""
    folder = run_command("train.py", *COMMON, "seed=8", f"outputs={outputs}")
    run_command("-m", "gptlab", "export", folder, "--to", "hf", "--into", str(outputs / "exported"))
    return train(f"pretrained=hf pretrained.path={outputs}/exported tokenizer=char", outputs / "more")


def run_study(outputs: Path) -> Any:
    """Return comparison.json of a small study, timings aside."""
    words = ["attention=mha,gqa", "steps=40", "seeds=2", "timing=0", "tracking=disabled", f"outputs={outputs}"]
    line = run_command("ablate.py", *words)
    (file,) = outputs.glob("ablations/*/comparison.json")
    return strip_volatile(json.loads(file.read_text())) if file.exists() else line


def measure(jobs: int, only: str) -> dict[str, Any]:
    """Return the numbers of all cases whose overrides hold the text `only`, by their overrides."""
    special = {"resumed": resume_killed_run, "fine-tuned": finetune_exported, "study": run_study}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        futures = {name: pool.submit(act, Path(folder, name)) for name, act in special.items() if only in name}
        futures |= {case: pool.submit(train, case, Path(folder, "pool")) for case in list_cases() if only in case}
        results = {}
        for name, future in futures.items():
            results[name] = future.result()
            print(f"{name}: {results[name] if isinstance(results[name], str) else 'ran'}", flush=True)
        return json.loads(json.dumps(results).replace(folder, "<folder>"))


def find_difference(before: Any, after: Any, path: str = "") -> str | None:
    """Return where two nested values first differ, or None."""
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        lines = (find_difference(before[key], after[key], f"{path}/{key}") for key in before)
        return next(filter(None, lines), None)
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        lines = (find_difference(a, b, f"{path}/{i}") for i, (a, b) in enumerate(zip(before, after, strict=True)))
        return next(filter(None, lines), None)
    return None if before == after else f"{path}: {str(before)[:100]} before, {str(after)[:100]} now"


def main() -> None:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["record", "compare"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--only", default="", help="the cases that hold this text")
    arguments = parser.parse_args()
    results = measure(arguments.jobs, arguments.only)
    if arguments.action == "record":
        arguments.file.write_text(json.dumps(results, indent=1))
        return
    before = json.loads(arguments.file.read_text())
    cases = [case for case in before if arguments.only in case]
    lines = [f"{case}{line}" for case in cases if (line := find_difference(before[case], results.get(case)))]
    print(*lines, f"{len(cases) - len(lines)} of {len(cases)} cases are the same, bit for bit", sep="\n")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
