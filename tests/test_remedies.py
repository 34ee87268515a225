"""What a message tells people to do can be done: each command, option, extra and target that one names exists."""

import ast
import re
import tomllib
from collections.abc import Iterator

import pytest
import typer.main
from conftest import ROOT, SOURCE

from gptlab.__main__ import app

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = [*sorted(SOURCE.rglob("*.py")), *ROOT.glob("*.py"), *sorted((ROOT / "src" / "hydra_plugins").rglob("*.py"))]
"""All that can say something."""


def texts() -> Iterator[tuple[str, str]]:
    """(file, text) of every text in the code, what an f-string fills in left out; those that are joined, joined."""
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield str(file.relative_to(ROOT)), node.value
            elif isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
                yield str(file.relative_to(ROOT)), "".join(map(str, parts))


TEXTS = [*texts()]


def found(pattern: str) -> list[tuple[str, tuple[str, ...]]]:
    """Where a pattern is said, and its groups."""
    return [(file, match.groups()) for file, text in TEXTS for match in re.finditer(pattern, text)]


def test_every_command_that_is_named_exists_with_its_options():
    named = [(file, *said) for file, said in found(r"(?:-m gptlab|`gptlab|[:;] gptlab) ([a-z_]+)([^;\n`]*)")]
    assert len(named) > 5
    for file, command, rest in named:
        assert command in COMMANDS, (file, command)
        options = {option for one in COMMANDS[command].params for option in one.opts}
        assert {*re.findall(r"--[a-z][a-z-]*", rest)} <= options, (file, command, rest)


def test_every_extra_that_is_named_exists():
    extras = {name for _, (names,) in found(r"gptlab\[([a-z,]+)\]") for name in names.split(",")}
    assert extras
    assert extras <= {*PROJECT["optional-dependencies"]}


def test_every_target_of_make_that_is_named_exists():
    targets = {*re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)}
    assert {target for _, (target,) in found(r"run: make ([a-z-]+)")} <= targets


@pytest.mark.parametrize("program", ["train.py", "ablate.py"])
def test_every_program_that_is_named_exists(program: str):
    assert (ROOT / program).exists()
    assert {name for _, (name,) in found(r"python ([a-z_/]+\.py)")} <= {"train.py", "ablate.py"}
