"""Laws of python -m gptlab new: what it begins works, keeps the laws and the style of the house, or is not there."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import CONF, ROOT, SOURCE

from gptlab.commands import new
from gptlab.commands.explain import split_knob_list
from gptlab.config.factory import find_slot_package
from gptlab.config.recipe import PARTS
from gptlab.errors import Refused

BROKEN = "x / (x.square().mean((1, 2), keepdim=True).sqrt() + self.eps) * self.weight"
"""A norm that looks into the future."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the house."""
    copy = tmp_path_factory.mktemp("house")
    for name in ("conf", "src", "tests"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("train.py", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    return copy


def python(house: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Python in a copied house."""
    environment = {"PYTHONPATH": str(house / "src"), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_a_variant_is_begun_keeps_all_laws_and_says_what_to_run(house: Path):
    done = python(house, "-m", "gptlab", "new", "schedule", "my_idea")
    assert (done.returncode, done.stderr) == (0, "")
    held = re.search(r"laws +(\d+) hold\n", done.stdout)
    assert held, done.stdout
    assert int(held[1]) >= 3
    assert "python train.py schedule=my_idea\n" in done.stdout
    assert done.stdout.endswith("python ablate.py -m schedule=cosine,my_idea\n")


@pytest.mark.slow
def test_a_broken_law_is_named(house: Path):
    starter = house / "src/gptlab/commands/starters/norm.py.jinja"
    text = starter.read_text()
    starter.write_text(re.sub(r"return x / .*", f"return {BROKEN}", text))
    done = python(house, "-m", "gptlab", "new", "norm", "seer")
    starter.write_text(text)
    assert done.returncode == 1
    assert "later tokens leave earlier logits bit equal  (norm=seer)" in done.stdout
    assert '-k "norm and seer"' in done.stdout


WRITE_ALL = """
from gptlab.commands import new
for slot in new.STARTERS:
    new.write_variant(slot, "my_thing")
"""


@pytest.fixture(scope="module")
def begun(house: Path) -> Path:
    """The house with a variant of every kind in it."""
    done = python(house, "-c", WRITE_ALL)
    assert (done.returncode, done.stderr) == (0, "")
    return house


@pytest.mark.thorough
def test_every_starter_becomes_two_files_of_the_house(begun: Path):
    for slot in new.STARTERS:
        package = find_slot_package(slot)
        code = (begun / "src" / package.replace(".", "/") / "my_thing.py").read_text()
        assert code.startswith('"""')
        assert "class MyThing(" in code
        assert max(map(len, code.splitlines())) <= 120
        node = yaml.safe_load((begun / "conf" / slot / "my_thing.yaml").read_text())
        assert node["_target_"] == f"{package}.my_thing.MyThing"
        variant = next(part for part in ast.parse(code).body if isinstance(part, ast.ClassDef))
        knobs = {key for key in node if not key.startswith("_")} - {"defaults"}
        assert knobs <= split_knob_list(ast.get_docstring(variant) or "", [*knobs])[1].keys()


@pytest.mark.slow
def test_every_starter_keeps_the_laws(begun: Path):
    laws = python(
        begun, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_structure.py", "tests/model/test_decoder_laws.py",
        "tests/model/test_document_borders.py", "tests/model/test_parametrization.py",
        "-k", "my_thing and (signature or idea or one_way or whole or learns or in_a_row or first_values or scaled)",
    )  # fmt: skip
    assert laws.returncode == 0, laws.stdout[-3000:]


def test_every_part_has_a_starter():
    assert {*PARTS, "init", "schedule", "optimizer", "metric"} <= set(new.STARTERS)


@pytest.mark.parametrize(
    ("slot", "name", "line"),
    [
        ("attention", "mha", "attention=mha is there already; take another name"),
        ("attention", "softmax", "attention=softmax is there already; take another name"),
        ("attention", "nn", "attention=nn would hide what gptlab.model.attention imports as nn; take another name"),
        ("mlp", "2big", "'2big' is no name for a Python file; take small letters, digits and _, as in my_idea"),
        ("mlp", "../x", "'../x' is no name for a Python file; take small letters, digits and _, as in my_idea"),
        ("mlp", "lambda", "'lambda' is no name for a Python file; take small letters, digits and _, as in my_idea"),
        ("trainer", "mine", f"trainer: nothing to begin there; choose from {', '.join(new.STARTERS)}"),
    ],
)
def test_what_cannot_be_begun_is_refused_in_one_line(slot: str, name: str, line: str):
    with pytest.raises(Refused) as refused:
        new.refuse_bad_name(slot, name)
    assert str(refused.value) == line


def test_outside_a_checkout_nothing_is_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(new, "ROOT", tmp_path)
    with pytest.raises(Refused, match="is no source checkout"):
        new.write_variant("mlp", "my_idea")


def test_what_fails_on_the_way_leaves_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(new, "render_starter", lambda slot, kind: "no Python at all")
    with pytest.raises(SyntaxError):
        new.write_variant("mlp", "half_made")
    assert not list(SOURCE.rglob("half_made*")) + list(CONF.rglob("half_made*"))
