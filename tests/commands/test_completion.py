"""A shell completes slots, choices and knobs: an interactive bash is shown Tab; the two programs have hydra's."""

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from conftest import ROOT

from gptlab.commands.complete import complete_word, list_slot_folders
from gptlab.commands.explain import list_slots

BASH = shutil.which("bash")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `gptlab` and `python` are those of these tests."""
    folder = tmp_path_factory.mktemp("bin")
    starter = f"#!{sys.executable}\nimport sys\nfrom gptlab.__main__ import main\nsys.exit(main())\n"
    (folder / "gptlab").write_text(starter)
    (folder / "gptlab").chmod(0o755)
    (folder / "python").symlink_to(sys.executable)
    paths = [str(ROOT / "src"), *sys.path]
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def press_tab(line: str, install: str, environment: dict[str, str]) -> str:
    """What stands on the line of an interactive bash after `line` and Tab."""
    if BASH is None:
        pytest.skip("no bash")
    mine, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    env = {**environment, "PS1": "$ ", "TERM": "dumb", "INPUTRC": "/dev/null"}
    command = [BASH, "--norc", "--noprofile", "-i"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=env) as shell:
        os.close(theirs)
        try:
            # said in two words, so that the echo of the command is not taken for its output
            os.write(mine, f"bind 'set bell-style none'; {install}; echo read''y\n".encode())
            read_until(mine, "ready")
            os.write(mine, f"{line}\t".encode())
            # a comment after what was completed, and the line as a whole is echoed once more by `echo`
            os.write(mine, b"\x01echo \x05 en''d\n")
            shown = read_until(mine, " end\r\n")
        finally:
            shell.kill()
            os.close(mine)
    return re.findall(r"(\S.*?) *end\r\n", shown)[-1].strip()


def read_until(terminal: int, word: str, seconds: float = 60) -> str:
    """All that a terminal shows up to a word."""
    shown, end = "", time.monotonic() + seconds
    while word not in shown:
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
    return shown


GPTLAB = 'eval "$(_GPTLAB_COMPLETE=source_bash gptlab)"'


@pytest.mark.thorough
@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("gptlab expl", "gptlab explain"),
        ("gptlab train posi", "gptlab train position="),
        ("gptlab train position=al", "gptlab train position=alibi"),
        ("gptlab ablate attention=gqa,sw", "gptlab ablate attention=gqa,swa"),
        ("gptlab train attention=swa attention.wi", "gptlab train attention=swa attention.window="),
        ("gptlab new resid", "gptlab new residual"),
    ],
)
def test_bash_completes_gptlab(line: str, completed: str, commands: dict[str, str]):
    assert press_tab(line, GPTLAB, commands) == completed


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("python train.py optimiz", "python train.py optimizer"),  # optimizer= or optimizer.
        ("python train.py position=al", "python train.py position=alibi"),
        ("python ablate.py attention=gq", "python ablate.py attention=gqa"),
    ],
)
def test_bash_completes_the_programs_by_hydra(line: str, completed: str, commands: dict[str, str]):
    assert press_tab(line, f'eval "$(python {line.split()[1]} -sc install=bash)"', commands) == completed


def test_whole_words_are_completed_where_a_shell_does_not_break_them():
    assert complete_word("attention=gq", []) == ["attention=gqa"]
    assert complete_word("attention=gqa,gq", []) == []  # is there already
    assert complete_word("dry_run=", [], "ablate") == ["dry_run=false", "dry_run=true"]
    assert complete_word("dry_run=", [], "train") == []
    assert complete_word("optimizer.mom", ["optimizer=muon"]) == ["optimizer.momentum="]
    assert complete_word("optimizer.mom", []) == []  # of AdamW, the default, no knob begins so


def test_what_is_completed_is_the_menu():
    assert list_slot_folders() == list_slots()


def test_completion_imports_neither_hydra_nor_torch(commands: dict[str, str], tmp_path: Path):
    code = "import sys, gptlab.commands.complete; print(*({'hydra', 'torch', 'lightning'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=commands, capture_output=True, text=True)
    assert done.stdout.split() == [], done.stderr
