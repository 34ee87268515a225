"""The wheel works without a clone: installed by itself, from a folder with blanks in its name, its commands run."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import ROOT

SMALL = "steps=3 evaluation.tokens=64 sample.count=0 sample.length=4 tracking=disabled model.width=16 model.layers=1"
pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command that knows nothing of the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    folder = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def gptlab(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a fresh environment that has the wheel; what it depends on is borrowed from this one."""
    venv = tmp_path_factory.mktemp("a fresh") / "venv"
    assert run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=wheel.parent).returncode == 0
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(venv), "platbase": str(venv)}))
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin" / "python"]
    done = run(*pip, "install", "--no-deps", "--no-index", "--quiet", "--ignore-installed", wheel, cwd=wheel.parent)
    assert done.returncode == 0, done.stderr
    return venv / "bin" / "gptlab"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with blanks in its name."""
    return tmp_path_factory.mktemp("an empty") / "folder of mine"


def test_the_wheel_is_small(wheel: Path):
    assert wheel.stat().st_size < 2_000_000


def test_a_model_trains_and_writes_and_two_are_compared(gptlab: Path, folder: Path):
    folder.mkdir()
    trained = run(gptlab, "train", "model=nano", *SMALL.split(), cwd=folder)
    assert trained.returncode == 0, trained.stderr
    began = json.loads((folder / trained.stdout.splitlines()[-1] / "run.json").read_text())
    assert began["command"].startswith("gptlab train model=nano steps=3 ")
    written = run(gptlab, "sample", trained.stdout.splitlines()[-1], "--length", "5", cwd=folder)
    assert (written.returncode, len(written.stdout)) == (0, 5 + 1), written.stderr
    study = run(gptlab, "ablate", "attention=gqa,mha", "seeds=2", "timing=0", *SMALL.split(), cwd=folder)
    assert study.returncode in (0, 3), study.stderr
    assert [*(folder / "outputs" / "ablations").glob("*/report.html")]
    assert run(gptlab, "train", "attention=foo", cwd=folder).stderr.startswith("error: attention=foo: no such option")


def test_people_add_their_own_yamls(gptlab: Path, folder: Path):
    (folder / "my conf" / "experiment").mkdir(parents=True)
    (folder / "my conf" / "experiment" / "own.yaml").write_text("# @package _global_\nseed: 7\n")
    for words in (["--config-dir", "my conf"], [f"hydra.searchpath=['file://{folder}/my conf']"]):
        done = run(gptlab, "train", *words, "experiment=own", "--cfg", "job", cwd=folder)
        assert "\nseed: 7\n" in done.stdout, done.stderr
