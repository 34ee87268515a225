"""The tutorial is true: its commands run in their order, as they stand on the page."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (python .+)$", PAGE, re.M)


def test_the_tutorial_says_what_it_takes():
    assert len(COMMANDS) > 8
    assert {"train.py", "ablate.py", "-m"} == {command.split()[1] for command in COMMANDS}


@pytest.mark.slow
def test_every_command_of_the_tutorial_runs(tmp_path: Path):
    for name in ("train.py", "ablate.py", "conf", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, sys.path)])}
    env["PATH"] = f"{tmp_path / 'bin'}:{env['PATH']}"
    for command in COMMANDS:
        for place, name in (("runs", "RUN"), ("ablations", "STUDY")):
            if f"outputs/{place}/{name}" in command:
                newest = max((tmp_path / "outputs" / place).iterdir(), key=lambda folder: folder.stat().st_mtime)
                command = command.replace(name, newest.name)
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=900
        )
        # 3: not resolved, which the page says too
        allowed = (0, 3) if "ablate.py" in command or " judge " in command else (0,)
        assert done.returncode in allowed, (command, done.stderr[-2000:])
    (grid,) = (tmp_path / "outputs" / "ablations").glob("norm_*")
    assert "## Interactions" in (grid / "report.md").read_text()
    assert [*(tmp_path / "outputs" / "ablations").glob("position_*/report.html")]
