"""Every Python that pyproject.toml promises reads our sources, where it is installed; it trains where torch is, too."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import ROOT, tiny

PROMISED = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
OTHERS = [version for version in PROMISED if version != f"3.{sys.version_info.minor}"]
COMPILE = """
import pathlib, sys
for folder in sys.argv[1:]:
    for path in pathlib.Path(folder).rglob("*.py"):
        compile(path.read_bytes(), str(path), "exec")
"""


def find_python(version: str) -> str:
    """Return the program of a version; skip the test where there is none that starts."""
    program = shutil.which(f"python{version}")
    # pyenv has a program of that name for versions that are switched off
    if program is None or run(program, "-c", "").returncode:
        pytest.skip(f"no python{version} on PATH")
    return program


def run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the root of the project."""
    return subprocess.run([program, *words], cwd=ROOT, capture_output=True, text=True)


def test_two_newer_versions_are_promised():
    assert {"3.12", "3.13"} <= {*PROMISED}


@pytest.mark.parametrize("version", OTHERS)
def test_another_python_reads_all_sources_without_a_warning(version: str):
    done = run(find_python(version), "-W", "error", "-c", COMPILE, "src", "tests", "docs", "benchmarks", "examples")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", OTHERS)
def test_another_python_trains_where_the_packages_are(version: str, tmp_path: Path):
    program = find_python(version)
    if run(program, "-c", "import torch, lightning, hydra, wandb, torchmetrics").returncode:
        pytest.skip(f"python{version} has no torch, lightning, hydra, wandb, torchmetrics")
    done = run(program, "train.py", *tiny(tmp_path), "steps=2")
    assert done.returncode == 0, done.stderr
