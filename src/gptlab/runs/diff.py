"""Runs side by side by what they were asked to be: every key whose value is not the same, and every fact."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gptlab.config.recipe import COSMETIC, flat
from gptlab.runs.record import Record, saved

MOST = 6
"""Runs that stand side by side."""
FACTS = ("code", "git", "data_sha256", "torch", "lightning", "python")
NONE = "none"


def differences(folders: list[Path]) -> dict[str, list[str]]:
    """Key to its value in each run, of those that differ; a choice stands before the knobs that came with it."""
    every = [_all(folder) for folder in folders]
    keys = sorted({key for one in every for key in one}, key=lambda key: (key.split(".")[0], "." in key, key))
    rows = {key: [str(one.get(key, NONE)) for one in every] for key in keys}
    return {key: values for key, values in rows.items() if len({*values}) > 1}


def _all(folder: Path) -> dict[str, Any]:
    recipe, facts = saved(folder), Record(folder).facts()
    chosen = {slot: choice for slot, choice in recipe.choices.items() if isinstance(choice, str)}
    knobs = {key: value for key, value in flat(recipe.config).items() if not key.endswith(("._target_", "._partial_"))}
    found = {**knobs, **chosen, **{key: facts[key] for key in FACTS if key in facts}}
    return {key: value for key, value in found.items() if key.split(".")[0] not in COSMETIC}


def show(folders: list[Path], console: Console) -> None:
    """Prints them, a column a run, where that many have room."""
    if not 2 <= len(folders) <= MOST or any((folder / "study.json").exists() for folder in folders):
        return
    found = differences(folders)
    console.print()
    if not found:
        console.print("The same config, code and text.")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("what differs")
    for folder in folders:
        table.add_column(Text(folder.name), overflow="fold")
    for key, values in found.items():
        table.add_row(Text(key), *map(Text, values))
    console.print(table)
