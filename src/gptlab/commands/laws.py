"""Run the laws of tests/ on choices, in a process of their own."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from typing import NamedTuple

from gptlab.config.menu import CONF
from gptlab.config.recipe import PARTS
from gptlab.errors import Refused

ROOT = CONF.parent


class LawResults(NamedTuple):
    """Results of the laws: how many held, the names of those that did not, the whole report, the command."""

    held: int
    broken: list[str]
    report: str
    command: str


def run_laws(slot: str, name: str) -> LawResults:
    """Run every law that meets the choices of the slot on one of them, in a process of its own."""
    if find_spec("pytest") is None:
        raise Refused(
            f"{slot}={name} is written, but pytest is not here to run its laws; run: make test ARGS='-k {name}'"
        )
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    always = ["test_structure.py", *(["test_decoder_laws.py"] if slot in (*PARTS, "init") else [])]
    files_with_laws = [
        str(file.relative_to(ROOT)) for file in tests if file.name in always or f'choices("{slot}")' in file.read_text()
    ]
    arguments = [*files_with_laws, "-k", f"{slot} and {name}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", "-rfE", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    held = re.search(r"(\d+) passed", done.stdout)
    broken = re.findall(r"^(?:FAILED|ERROR) (\S+?::\S.*?)(?: - .*)?$", done.stdout, re.M)
    if done.returncode and not broken:  # collection itself failed, or nothing was found
        broken = [f"pytest ended with status {done.returncode}"]
    command = f'python -m pytest {" ".join(files_with_laws)} -k "{slot} and {name}"'
    return LawResults(int(held[1]) if held else 0, broken, done.stdout + done.stderr, command)


def describe_law(law: str) -> str:
    """Return tests/model/test_decoder_laws.py::test_padding_changes_nothing[case] in words."""
    match = re.fullmatch(r".*::test_(\w+)(?:\[(.*)\])?", law)
    return law if match is None else match[1].replace("_", " ") + (f"  ({match[2]})" if match[2] else "")
