"""The tree keeps its shape: YAML keys are signatures, conf/ mirrors src/gptlab/, and imports go one way."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import CONF, ROOT, SIZES, SOURCE, choices, menu

from gptlab.config.factory import check_node, find_slot_package, list_knobs, locate, read_knobs
from gptlab.config.recipe import KNOB_SLOTS, LISTS, OPTIONAL_SLOTS, SLOTS

YAML_ALONE = {"model", "tracking", "experiment", "hydra"}
HELPERS = {f"gptlab.weights.pretrained.{name}" for name in ("config_json", "families", "files", "mapping")}
"""Files beside a slot's choices that several of these share."""
FILES = sorted(SOURCE.rglob("*.py"))
ALL = FILES + sorted((ROOT / "src" / "hydra_plugins").rglob("*.py")) + sorted(ROOT.glob("*.py"))


def short(path: Path) -> str:
    return str(path.relative_to(SOURCE if path.is_relative_to(SOURCE) else ROOT))


# -- conf/ and src/gptlab/


def choosing() -> Iterator[tuple[str, str, str]]:
    """(slot, choice, target) of every YAML that names code."""
    for file in sorted(CONF.glob("*/*.yaml")):
        if file.parent.name not in YAML_ALONE:
            yield file.parent.name, file.stem, yaml.safe_load(file.read_text())["_target_"]


@pytest.mark.parametrize(("slot", "choice"), [(slot, choice) for slot in SLOTS for choice in choices(slot)])
def test_yaml_keys_are_the_signature(slot: str, choice: str):
    node = menu(*SIZES)[slot][choice]
    assert not list(check_node(node, f"{slot}.{choice}" if slot in LISTS else slot))
    for part in nested(node):
        target = locate(part["_target_"], slot if part is node else f"{slot}.{choice}.knob")
        assert part["_partial_"] is True
        assert set(list_knobs(part)) == set(read_knobs(target)), target


def nested(value: Any) -> Iterator[dict[str, Any]]:
    """Every choice in a node, itself first."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield value
        for one in value.values():
            yield from nested(one)


def test_every_knob_is_annotated():
    for slot, _, target in choosing():
        for name, parameter in read_knobs(locate(target, slot)).items():
            assert parameter.annotation is not parameter.empty, f"{target}: {name}"


def test_every_target_lives_in_the_folder_of_its_slot():
    for slot, choice, target in choosing():
        assert target.startswith(f"{find_slot_package(slot)}.") or target == "gptlab.model.decoder.pattern", (
            f"{slot}={choice}: {target}"
        )


def test_every_variant_file_is_named_by_some_yaml():
    named = {target.rpartition(".")[0] for _, _, target in choosing()}
    homes = {find_slot_package(path.name) for path in CONF.iterdir() if path.is_dir() and path.name not in YAML_ALONE}
    packages = {f: f"gptlab.{dotted(f).rpartition('.')[0]}" for f in FILES if f.stem != "__init__"}
    files = {f"{package}.{f.stem}" for f, package in packages.items() if package in homes}
    assert files - named == HELPERS
    assert named - files == {"gptlab.model.decoder"}  # its pattern tiles choices over the layers


def test_every_slot_has_one_package():
    menus = {path.name for path in CONF.iterdir() if path.is_dir()} - YAML_ALONE
    assert menus == {*SLOTS, *OPTIONAL_SLOTS, *KNOB_SLOTS, "study", "mirror"}
    assert all(map(find_slot_package, menus))


@pytest.mark.parametrize("folder", sorted({file.parent for file in FILES}), ids=short)
def test_a_folder_has_at_most_twenty_modules(folder: Path):
    assert len(list(folder.glob("*.py"))) <= 20


# -- who may import whom: the layers are import-linter's contracts in pyproject.toml; here is what it cannot say


def test_imports_keep_the_contracts_of_pyproject():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


@cache
def imports(file: Path, late: bool = True) -> frozenset[str]:
    """Dotted names that a file imports, without those for type checkers; late: also those inside functions."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not late:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(ast.parse(file.read_text()))
    return frozenset(found)


def dotted(file: Path) -> str:
    """A file of the package as attention or attention.softmax."""
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def inside(file: Path, late: bool = True) -> set[str]:
    """The package's own files that a file imports, by their dotted names."""
    known, found = {dotted(f) for f in FILES}, set()
    for name in imports(file, late):
        if name.startswith("gptlab."):
            parts = name.split(".")[1:]
            ends = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
            found.add(next(end for end in ends if end in known))
    return found


def closure(*names: str, late: bool = True) -> set[Path]:
    """All files that importing these draws in."""
    files, done, left = {dotted(f): f for f in FILES}, set(), [*names]
    while left:
        if (name := left.pop()) not in done:
            done.add(name)
            left += [*inside(files[name], late), *([name.rpartition(".")[0]] if "." in name else [])]
    return {files[name] for name in done}


def test_no_file_names_a_variant():
    packages = [find_slot_package(slot).removeprefix("gptlab.") for slot in (*SLOTS, *KNOB_SLOTS)]
    variants = {f"{one}.{file.stem}" for one in packages for file in (SOURCE / one.replace(".", "/")).glob("[a-z]*.py")}
    for file in FILES:
        assert not inside(file) & variants - {dotted(file)}, short(file)


SENDERS = {"report.publish", "report.render.wandb_summary"}
"""They send to W&B, and import it when they do."""
READERS = [
    dotted(file)
    for package in ("config", "report", "stats")
    for file in sorted((SOURCE / package).rglob("[a-z]*.py"))
    if dotted(file) not in SENDERS
]


@pytest.mark.parametrize("name", ["runs.record", "errors", *READERS])
def test_records_are_read_without_torch(name: str):
    for file in closure(name):
        assert not {one.split(".")[0] for one in imports(file)} & {"torch", "lightning", "wandb"}, short(file)


def test_a_bad_config_is_refused_before_torch_is_imported():
    for file in closure("compose", late=False):
        assert not {one.split(".")[0] for one in imports(file, late=False)} & {"torch", "lightning", "wandb"}, short(
            file
        )


# -- sizes


@pytest.mark.parametrize("file", ALL, ids=short)
def test_a_file_is_one_idea_and_a_function_fits_in_the_eye(file: Path):
    text = file.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, node.name
