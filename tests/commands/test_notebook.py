"""docs/study.ipynb runs headless: its cells in order, in one namespace, the last value of each shown as HTML or text.

As a kernel does it, without one: Jupyter's would bring some thirty packages for these few lines.
"""

import ast
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT

import gptlab
from gptlab.commands import python_study

NOTEBOOK = ROOT / "docs" / "study.ipynb"
VERDICT = dict.fromkeys(python_study.COLUMNS.values(), 0.5) | {"arm": "<gqa>", "next_look": None}


def show_cells(path: Path) -> list[str]:
    """What each code cell of a notebook shows."""
    namespace: dict[str, Any] = {}
    shown = []
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        *body, last = ast.parse("".join(cell["source"])).body
        assert isinstance(last, ast.Expr)
        exec(compile(ast.Module(body, []), path.name, "exec"), namespace)
        value = eval(compile(ast.Expression(last.value), path.name, "eval"), namespace)
        shown.append(value._repr_html_() if hasattr(value, "_repr_html_") else repr(value))
    return shown


@pytest.mark.slow  # four runs
def test_the_notebook_of_the_docs_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    asked, table, verdicts, rows, loss = show_cells(NOTEBOOK)
    assert "not run" in asked
    assert "attention=gqa" in table
    assert "<table>" in table
    assert "attention=gqa" in verdicts
    assert int(rows) == 4
    assert 0 < float(loss) < 10


def test_its_cells_show_a_study_as_a_table_and_its_runs_as_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "results.csv").write_text("arm,seed\ngqa,0\ngqa,1\n")
    answer = {"folder": str(tmp_path), "verdicts": [VERDICT], "error": None}
    done = SimpleNamespace(communicate=lambda: (f"{json.dumps(answer)}\n", None), returncode=0)
    monkeypatch.setattr(python_study.subprocess, "Popen", lambda *_, **__: done)
    monkeypatch.setattr(gptlab.commands.python_study, "read_runs", lambda outputs: [{"summary": {"val/loss": 1.5}}])
    asked, table, verdicts, rows, loss = show_cells(NOTEBOOK)
    assert (
        asked == "<code>Study(attention=mha,gqa seeds=2 looks=[2] model=nano steps=20 timing=0 jobs=1)</code>, not run"
    )
    assert "<td>&lt;gqa&gt;</td>" in table  # a name is no HTML
    assert "+0.5000" in table
    assert "<gqa>" in verdicts
    assert (rows, loss) == ("2", "1.5")
    monkeypatch.setattr(python_study, "import_module", lambda name: SimpleNamespace(read_csv=lambda path: (name, path)))
    assert gptlab.Study("attention=mha,gqa").run().frame() == ("pandas", tmp_path / "results.csv")
