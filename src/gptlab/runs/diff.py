"""Differences between runs: every key whose value is not the same, and every fact."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gptlab.config.recipe import COSMETIC_KEYS, flatten
from gptlab.config.typecheck import show_value
from gptlab.runs.record import RunFolder, read_recipe

MAX_RUNS = 6
"""Runs that stand side by side."""
FACTS = ("code", "git", "data_sha256", "torch", "lightning", "python")
MISSING = "none"


def find_differences(folders: list[Path]) -> dict[str, list[str]]:
    """Return key to its value in each run, of those that differ; a choice stands before the knobs that came with it."""
    descriptions = [_describe_run(folder) for folder in folders]
    keys = {key for description in descriptions for key in description}
    differences = {}
    for key in sorted(keys, key=lambda key: (key.split(".")[0], "." in key, key)):
        values = [show_value(description.get(key, MISSING)) for description in descriptions]
        if len({*values}) > 1:
            differences[key] = values
    return differences


def _describe_run(folder: Path) -> dict[str, Any]:
    recipe, facts = read_recipe(folder), RunFolder(folder).read_facts()
    choices = {slot: choice for slot, choice in recipe.choices.items() if isinstance(choice, str)}
    knobs = flatten(recipe.config).items()
    description = {key: value for key, value in knobs if not key.endswith(("._target_", "._partial_"))}
    # a slot's own value is the name of its choice
    description |= choices | {key: facts[key] for key in FACTS if key in facts}
    return {key: value for key, value in description.items() if key.split(".")[0] not in COSMETIC_KEYS}


def print_differences(folders: list[Path], console: Console) -> None:
    """Print the differences, a column a run, where that many have room."""
    if not 2 <= len(folders) <= MAX_RUNS or any((folder / "study.json").exists() for folder in folders):
        return
    differences = find_differences(folders)
    console.print()
    if not differences:
        console.print("The same config, code and text.")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("what differs")
    for folder in folders:
        table.add_column(Text(folder.name), overflow="fold")
    for key, values in differences.items():
        table.add_row(Text(key), *map(Text, values))
    console.print(table)
