"""Laws of what differs between runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import composed

from gptlab.console.json_text import to_json
from gptlab.runs.diff import find_differences


@pytest.mark.parametrize(
    ("words", "key", "written"),
    [
        (["attention=swa"], "attention.window", ["null", "16"]),
        (["bias=true"], "bias", ["false", "true"]),
        (["data=text", "data.path=my.txt"], "data.path", ["none", "my.txt"]),
        (["optimizer.betas=[0.9,0.95]"], "optimizer.betas", ["[0.9, 0.99]", "[0.9, 0.95]"]),
    ],
)
def test_a_value_that_differs_is_written_as_a_config_has_it(
    words: list[str], key: str, written: list[str], tmp_path: Path
):
    runs = [write_run(tmp_path / "plain", []), write_run(tmp_path / "other", words)]
    assert find_differences(runs)[key] == written


def write_run(folder: Path, words: list[str]) -> Path:
    """A run's folder with its config alone."""
    recipe = composed("model=nano", *words)
    facts: dict[str, Any] = {"choices": recipe.choices, "differs": []}
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe.config))
    (folder / "run.json").write_text(to_json(facts))
    return folder
