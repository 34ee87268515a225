"""Starting is quick: what is refused, asked or done already waits for no torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import ROOT

CHECK = (
    "import runpy, sys\nsys.argv = sys.argv[1:]\n"
    "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
    "finally:\n    print('imported', sorted({'torch', 'lightning', 'wandb'} & {*sys.modules}))"
)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train.py", "data=text", "data.path={}/none.txt"], "none.txt does not exist"),
        (["train.py", "data=shards", "data.path={}/none"], "none does not exist"),
        (["train.py", "tokenizer=file", "tokenizer.path={}/none"], "is not there"),
        (["ablate.py", "attention=mha,gqa", "data=text", "data.path={}/none.txt"], "none.txt does not exist"),
        (["train.py", "attention=foo"], "no such option"),
        (["train.py", "--help"], ""),
        (["ablate.py", "--help"], ""),
    ],
)
def test_a_missing_file_is_refused_before_torch_is_imported(tmp_path: Path, words: list[str], told: str):
    command = [sys.executable, "-c", CHECK, *(word.format(tmp_path) for word in words)]
    outputs = [] if "--help" in words else [f"outputs={tmp_path}"]
    done = subprocess.run([*command, *outputs], cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == (2 if told else 0), done.stderr
    assert told in done.stderr
    assert done.stdout.splitlines()[-1] == "imported []"
