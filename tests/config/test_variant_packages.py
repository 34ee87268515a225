"""Packages of variants: their choices are in the menu, their classes allowed, their sources in the fingerprint."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import ROOT, program, tiny

from gptlab import compose as wiring
from gptlab.config import broken_packages
from gptlab.config.broken_packages import find_fault
from gptlab.config.factory import locate
from gptlab.config.menu import list_choices
from gptlab.config.variant_packages import VARIABLE, list_variant_packages, register_searched
from gptlab.errors import Refused
from gptlab.runs.fingerprint import fingerprint, list_modules

EXAMPLE = ROOT / "examples" / "plugin"
TARGET = "gptlab_example.star_relu.StarReluMlp"


def write_package(folder: Path, name: str, choice: str = "mlp/mine", code: str = "") -> None:
    """A package of one choice, whose class is in `code`."""
    (folder / name / "conf" / choice).parent.mkdir(parents=True)
    (folder / name / "__init__.py").write_text("")
    (folder / name / "mine.py").write_text(code)
    (folder / name / "conf" / f"{choice}.yaml").write_text(f"_target_: {name}.mine.Mine\n_partial_: true\n")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example, registered."""
    monkeypatch.setattr(sys, "path", [str(EXAMPLE), *sys.path])
    monkeypatch.setenv(VARIABLE, "gptlab_example")


@pytest.mark.thorough
@pytest.mark.usefixtures("example")
def test_the_choices_of_a_registered_package_are_choices(tmp_path: Path):
    assert "star_relu" in list_choices("mlp")
    assert "\nmlp: geglu, gelu, gelu_tanh, " in (listed := program("train.py", "--help").out)
    assert "star_relu" in listed
    recipe = wiring.compose(["mlp=star_relu", "model=nano"])
    assert f"{TARGET.rpartition('.')[0]}" in list_modules(recipe)
    assert recipe.config["mlp"]["_target_"] == TARGET
    assert not wiring.check_recipe(recipe)
    swept = program("ablate.py", "mlp=glob(*)", "dry_run=true", f"outputs={tmp_path}", "tracking=disabled")
    assert "mlp=star_relu" in swept.out, swept.err


@pytest.mark.usefixtures("example")
def test_a_run_of_a_foreign_part_trains_and_is_opened(tmp_path: Path):
    done = program("train.py", *tiny(tmp_path, "mlp=star_relu", "steps=2"))
    assert done.status == 0, done.err
    assert program("-m gptlab", "sample", str(done.folder), "--length", "3").status == 0


def test_what_is_not_registered_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [str(EXAMPLE), *sys.path])
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(Refused, match=r"lies outside gptlab\., .*; if you trust gptlab_example, .*GPTLAB_VARIANTS=gpt"):
        locate(TARGET, "mlp")


def test_a_searchpath_of_a_package_registers_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [str(EXAMPLE), *sys.path])
    monkeypatch.setenv(VARIABLE, "")
    register_searched(["file:///elsewhere", "pkg://gptlab_example.conf"])
    assert [package.name for package in list_variant_packages()] == ["gptlab_example"]


@pytest.mark.parametrize("words", ["from .helper import number", "from covered_variants.helper import number"])
def test_the_fingerprint_covers_what_a_foreign_class_imports(
    words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    write_package(tmp_path, "covered_variants", code=f"{words}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv(VARIABLE, f"covered_variants{',' if '.helper' in words[:12] else ''}")  # two folders, two caches
    helper = tmp_path / "covered_variants" / "helper.py"
    prints = []
    for text in ("number = 1\n", "number = 1  # the same\n", "number = 22\n"):
        helper.write_text(text)
        prints.append(fingerprint(["covered_variants.mine"]))
    assert prints[0] == prints[1] != prints[2]
    helper.unlink()
    with pytest.raises(ModuleNotFoundError, match=r"no module covered_variants\.helper"):
        fingerprint(["covered_variants.mine"])


@pytest.mark.parametrize(
    ("packages", "line"),
    [
        ([], "gptlab.variants: there is no package absent; mend GPTLAB_VARIANTS=absent, or PYTHONPATH"),
        ([("first", "mlp/mine"), ("second", "mlp/mine")], "mlp=mine is a choice of first and of second; rename one"),
        ([("first", "mlp/gelu")], "mlp=gelu is a choice of gptlab and of first; rename one, or uninstall one"),
    ],
)
def test_packages_that_cannot_be_are_refused_in_one_line(
    packages: list[tuple[str, str]], line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for name, choice in packages:
        write_package(tmp_path, name, choice)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv(VARIABLE, ",".join(name for name, _ in packages) or "absent")
    done = program("train.py", "--help")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert done.err.startswith(f"error: {line}")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nothing_of_this_name\n", "No module named 'nothing_of_this_name'"),
        ("raise RuntimeError('two\\nlines')\n", "two lines"),
        ("import sys\nsys.exit(3)\n", "it ends the program (sys.exit: 3)"),
        ("def x(:\n", "invalid syntax (mine.py, line 1)"),
    ],
)
def test_a_package_whose_code_does_not_import_is_refused_in_one_line(
    code: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    package = f"broken_{tmp_path.name}"  # where a package lies is read once a process
    write_package(tmp_path, package, code=code)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv(VARIABLE, package)
    done = program("train.py", "mlp=mine", f"outputs={tmp_path}")
    line = f"mlp._target_={package}.mine.Mine cannot be imported: {reason}"
    assert done.status == 2
    assert done.err.splitlines()[-1] == f"error: {line}"
    done = program("-m gptlab", "check", package)
    assert (done.status, done.err) == (2, f"error: {line}\n")


@pytest.mark.thorough
@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import nothing_of_this_name\n", "mine.py, line 1: no module named nothing_of_this_name"),
        ("x = 1\nfrom .gone import y\n", "mine.py, line 2: no module named PACKAGE.gone"),
        ("from gptlab.model.mlp import Renamed\n", "mine.py, line 1: gptlab.model.mlp has no Renamed"),
        ("from gptlab.model.gone import Mlp\n", "mine.py, line 1: no module named gptlab.model.gone"),
        ("def x(:\n", "mine.py, line 1: invalid syntax"),
        ("raise RuntimeError\n", "mine.py, line 1 raises"),
    ],
)
def test_a_package_that_does_not_import_is_named_though_nobody_uses_its_choice(
    code: str, fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    package = f"unused_{tmp_path.name}"  # where a package lies is read once a process
    write_package(tmp_path, package, code=code)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv(VARIABLE, package)
    start = f"gptlab.variants: {package} does not import: "
    end = f"{fault.replace('PACKAGE', package)}; mend GPTLAB_VARIANTS={package}, or PYTHONPATH\n"
    for words in (["train.py", "--help"], ["ablate.py", "norm=rmsnorm,layernorm", "dry_run=true", *tiny(tmp_path)]):
        monkeypatch.setattr(broken_packages, "_printed", set())  # once a process
        done = program(*words)
        assert done.status == 0, done.err
        assert done.err.startswith(start)
        assert done.err.endswith(end)
        assert done.err.count("\n") == 1


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "code",
    [
        "import gptlab, torch.nn\nfrom gptlab import load\nfrom gptlab.model.mlp import *\n",
        "from gptlab.model import mlp\nfrom gptlab.model.mlp import Mlp\n",
        "try:\n    import nothing_of_this_name\nexcept ImportError:\n    pass\nfrom . import mine\n",
        "from .folder.inner import x\nfrom .folder import inner\n",
    ],
)
def test_a_package_that_imports_is_not_named(code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    package = f"sound_{tmp_path.name}"
    write_package(tmp_path, package, code=code)
    (tmp_path / package / "folder").mkdir()
    (tmp_path / package / "folder" / "inner.py").write_text("x = 1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(EXAMPLE), *sys.path])
    monkeypatch.setenv(VARIABLE, f"{package},gptlab_example")
    assert [find_fault(package) for package in list_variant_packages()] == [None, None]
    done = program("train.py", "--help")
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("mine.py", "def x(:\n", "mine.py, line 1: no Python: invalid syntax; mend that line"),
        ("conf/mlp/mine.yaml", "a: [1\n", "mine.yaml, line 2, column 1: no YAML: expected ',' or ']', but got"),
    ],
)
@pytest.mark.parametrize("command", ["slots", "schema --to ."])
def test_a_broken_file_of_a_package_ends_what_reads_all_choices_in_one_line(
    command: str, name: str, text: str, line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    package = f"unreadable_{tmp_path.name}"  # where a package lies is read once a process
    write_package(tmp_path, package)
    (tmp_path / package / name).write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv(VARIABLE, package)
    monkeypatch.chdir(tmp_path)
    done = program("-m gptlab", *command.split())
    assert (done.status, done.err.count("\n")) == (2, 1), done.err
    assert line in done.err or "invalid syntax (mine.py, line 1)" in done.err


def test_a_package_on_the_searchpath_is_taken_or_refused_without_a_word_of_hydras(tmp_path: Path):
    for name in ("first", "second"):
        write_package(tmp_path, name, "mlp/mine")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/src:{tmp_path}:{EXAMPLE}"}

    def train(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "train.py", *words, f"outputs={tmp_path}"]
        return subprocess.run(command, cwd=ROOT, env={**environment, **variables}, capture_output=True, text=True)

    taken = train("--cfg", "job", "mlp=star_relu", "hydra.searchpath=[pkg://gptlab_example.conf]")
    assert (taken.returncode, taken.stderr) == (0, "")
    assert TARGET in taken.stdout
    refused = train("mlp=mine", "hydra.searchpath=[pkg://second.conf]", **{VARIABLE: "first"})
    line = "error: mlp=mine is a choice of first and of second; rename one, or uninstall one\n"
    assert (refused.returncode, refused.stderr) == (2, line)
