"""Laws of comparison.json's keys: declared once, as many as are written, and of a version that is heeded."""

import dataclasses
import json
from pathlib import Path

import pytest

from gptlab.errors import Refused
from gptlab.report.index import render_index
from gptlab.report.render.comparison_keys import TABLES, VERSION, KeyTable
from gptlab.report.render.files import read_comparison


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.title)
def test_a_table_has_the_keys_of_what_is_written(table: KeyTable):
    fields = {field.name for field in dataclasses.fields(table.kind)}
    assert {*table.dropped} <= fields
    assert not fields & {*table.added}
    assert {*table.keys} == fields - {*table.dropped} | {*table.added}


def write_comparison(outputs: Path, **keys: object) -> Path:
    """Write the comparison.json of a study that has nothing but an answer."""
    path = outputs / "ablations" / "study" / "comparison.json"
    path.parent.mkdir(parents=True)
    (path.parent / "study.json").write_text("{}")
    path.write_text(json.dumps({**keys, "strata": [{"answer": [{"text": "It is better."}]}]}))
    return path


@pytest.mark.parametrize("keys", [{}, {"version": VERSION}], ids=["before versions", "this version"])
def test_an_older_file_is_read(tmp_path: Path, keys: dict[str, int]):
    assert read_comparison(write_comparison(tmp_path, **keys))["strata"]
    assert "It is better." in render_index(tmp_path)


@pytest.mark.parametrize("version", [VERSION + 1, "next"])
def test_a_newer_file_is_refused_and_not_shown(tmp_path: Path, version: object):
    path = write_comparison(tmp_path, version=version)
    with pytest.raises(Refused, match=rf"of version {version}, and this gptlab reads up to {VERSION}"):
        read_comparison(path)
    assert "not compared yet" in render_index(tmp_path)
