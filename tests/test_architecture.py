"""docs/architecture.md is true: every file that it names exists, and holds what it says of it."""

import re
from pathlib import Path

import pytest
from tiny_runs import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "src" / "gptlab"
FILES = sorted({*re.findall(r"`(?!outputs/)((?:\w+/)+(?:\w+\.(?:py|yaml))?)`", PAGE)})
NAMES = sorted({*re.findall(r"`([\w/]+\.py)`\s+\(`([\w.]+)`", PAGE)})


def find(path: str) -> Path | None:
    """Return a file of the page, which writes those of the package from the package's root."""
    return next((root / path for root in (PACKAGE, ROOT) if (root / path).exists()), None)


@pytest.mark.parametrize("path", FILES)
def test_a_file_that_the_page_names_exists(path: str):
    assert find(path)


@pytest.mark.parametrize(("path", "name"), NAMES)
def test_a_name_is_in_its_file(path: str, name: str):
    file = find(path)
    assert file
    text = file.read_text(encoding="utf-8")
    assert all(re.search(rf"(?:def|class) {part}\b", text) for part in name.split("."))


def test_every_room_is_on_the_page():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {room for room in rooms if f"{room}/" not in PAGE} == set()
