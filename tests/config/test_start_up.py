"""Starting is quick: what is refused, asked or done already waits for no torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import ROOT, tiny

CHECK = """
import contextlib, io, json, runpy, sys
for argv in json.loads(sys.argv[1]):
    sys.argv, out, err, status = argv, io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(argv[0], run_name="__main__")
        except SystemExit as end:
            status = end.code or 0
    print(json.dumps([status, err.getvalue(), sorted({"torch", "lightning", "wandb"} & {*sys.modules})]), flush=True)
"""
"""Programs one after another in a process; what one of them imports, all later ones have too."""

REFUSED = [
    (["train.py", "data=text", "data.path={}/none.txt"], "none.txt does not exist"),
    (["train.py", "data=shards", "data.path={}/none"], "none does not exist"),
    (["train.py", "tokenizer=file", "tokenizer.path={}/none"], "is not there"),
    (["ablate.py", "attention=mha,gqa", "data=text", "data.path={}/none.txt"], "none.txt does not exist"),
    (["train.py", "attention=foo"], "no such option"),
    (["train.py", "model.foo=3"], "no such key"),
    (["train.py", "+foo=3"], "no such key"),
    (["train.py", "steps=0"], "steps=0 is not positive"),
    (["train.py", "resume=/none"], "is no run folder"),
]


@pytest.mark.thorough
def test_what_is_asked_or_refused_waits_for_no_import_that_it_does_not_need(tmp_path: Path):
    cases = [([*words, f"outputs={tmp_path}"], told) for words, told in REFUSED]
    cases += [
        (["train.py", "--help"], ""),
        (["train.py", "--cfg", "job", "--resolve"], ""),
        (["ablate.py", "--help"], ""),
    ]
    # torch is needed to build the decoder, lightning for nothing yet
    cases += [
        (["train.py", "attention.kv_heads=3"], "does not divide"),
        (["train.py", "position.fraction=2"], "fraction"),
    ]
    argv = [[word.format(tmp_path) for word in words] for words, _ in cases]
    argv.append(["train.py", *tiny(tmp_path / "pool", "steps=5")])  # with tracking=disabled
    command = [sys.executable, "-c", CHECK, json.dumps(argv)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(cases) + 1, done.stderr
    assert (answers[-1][0], answers[-1][2]) == (0, ["lightning", "torch"])
    assert {path.name for path in (tmp_path / "pool").iterdir()} == {"runs"}  # no folder of W&B's
    for (words, told), (status, line, imported) in zip(cases, answers[:-1], strict=True):
        assert status == (2 if told else 0), words
        assert told in line, words
        assert imported == (["torch"] if words[1] in ("attention.kv_heads=3", "position.fraction=2") else []), words
