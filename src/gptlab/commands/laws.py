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


def run_laws(choices: list[tuple[str, str]]) -> LawResults:
    """Run on each (slot, choice) every law that meets the choices of its slot."""
    if find_spec("pytest") is None:
        raise Refused("the laws need pytest, which is not here; run: pip install pytest, then: gptlab check <package>")
    files_with_laws = sorted({file for slot, _ in choices for file in find_laws(slot)})
    names = " or ".join(f"({slot} and {name})" for slot, name in choices)
    # for people: pytest would take the brackets too
    names = names.strip("()") if len(choices) == 1 else names
    arguments = [*files_with_laws, "-k", names]
    # one thread, as in make test: the laws are many small products, which threads only slow down
    sources = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sources)), "OMP_NUM_THREADS": "1"}
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
    command = f'python -m pytest {" ".join(files_with_laws)} -k "{names}"'
    return LawResults(int(held[1]) if held else 0, broken, done.stdout + done.stderr, command)


def find_laws(slot: str) -> list[str]:
    """Return the files of tests that are run over the choices of a slot, as paths below ROOT."""
    # these go over the choices of all slots, and so name none
    always = ["test_structure.py", *(["test_decoder_laws.py"] if slot in (*PARTS, "init") else [])]
    files = [file for file in sorted((ROOT / "tests").rglob("test_*.py")) if file.parent.name != "commands"]
    chosen = (file for file in files if file.name in always or f'choices("{slot}")' in file.read_text(encoding="utf-8"))
    return [str(file.relative_to(ROOT)) for file in chosen]


def describe_law(law: str) -> str:
    """Return tests/model/test_decoder_laws.py::test_padding_changes_nothing[case] in words."""
    match = re.fullmatch(r".*::test_(\w+)(?:\[(.*)\])?", law)
    if match is None:
        return law
    case = f"  ({match[2]})" if match[2] else ""
    return f"{match[1].replace('_', ' ')}{case}"
