"""gptlab check, and new --package: variants of one's own keep the laws, or it is said which they break."""

import sys
from pathlib import Path

import pytest
import yaml
from tiny_runs import ROOT, program

from gptlab.commands import new
from gptlab.config.variant_packages import VARIABLE


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder of one's own, whose packages are forgotten afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_the_example_keeps_every_law(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT / "examples" / "plugin")
    done = program("-m gptlab", "check", "gptlab_example")
    assert done.status == 0, done.out + done.err
    assert int(done.out.split()[-3]) > 10


@pytest.mark.parametrize("package", ["absent", "absent.inner", "some/folder"])
def test_a_package_that_is_not_here_is_refused_by_the_name_that_was_typed(package: str):
    done = program("-m gptlab", "check", package)
    wanted = f"error: {package} is no package that is installed or lies in this folder; give its dotted name, "
    assert (done.status, done.err.startswith(wanted)) == (2, True), done.err


def test_a_variant_begins_in_a_package_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    written = new.write_variant("norm", "my_idea", "begun_variants")
    assert written.code == tmp_path / "begun_variants" / "my_idea.py"
    assert yaml.safe_load(written.yaml.read_text())["_target_"] == "begun_variants.my_idea.MyIdea"
    assert 'begun_variants = "begun_variants"' in (tmp_path / "pyproject.toml").read_text()
    again = program("-m gptlab", "new", "norm", "my_idea", "--package", "begun_variants")
    assert again.err == "error: norm=my_idea is there already; take another name\n"
    bad = program("-m gptlab", "new", "norm", "my_idea", "--package", "my-package")
    assert bad.err == "error: --package='my-package' is no name for a package of one's own; try mypackage\n"


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("", "", "holds no <slot>/<choice>.yaml; begin one: gptlab new mlp my_idea --package {}"),
        ("atention/mine", "_target_: {}.Mine\n", "{}: conf/atention/mine.yaml: there is no slot atention; see"),
        ("mlp/mine", "_target_: {}.Mine\n_partial_: true\n", "mlp._target_={}.Mine cannot be imported: "),
        ("mlp/mine", "_target_: {}.Path\n_partial_: true\n", "mlp._target_={}.Path is pathlib."),
    ],
)
def test_what_is_wrong_is_said_before_the_laws(file: str, text: str, line: str, tmp_path: Path):
    name = f"wrong_{abs(hash((file, text))) % 10**9}"
    (tmp_path / name / "conf" / (file or "mlp/x")).parent.mkdir(parents=True)
    (tmp_path / name / "__init__.py").write_text("from pathlib import Path\n")
    if file:
        (tmp_path / name / "conf" / f"{file}.yaml").write_text(text.format(name))
    done = program("-m gptlab", "check", name)
    assert (done.status, done.err.count("\n")) == (2, 1), done.err
    assert line.format(name) in done.err
