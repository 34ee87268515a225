"""JSON schemas of the menu's YAMLs: all of conf/ is valid, and what the programs refuse the schema refuses."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import CONF, ROOT
from omegaconf import OmegaConf

from gptlab.ablation.options import StudyOptions
from gptlab.commands.schema import make_editor_settings, make_schemas, write_schemas

jsonschema = pytest.importorskip("jsonschema")

FILES = [file for file in sorted(CONF.rglob("*.yaml")) if file.relative_to(CONF).parts[0] != "hydra"]  # hydra's own


@cache
def schemas() -> dict[str, dict[str, Any]]:
    return make_schemas(StudyOptions)


def find_schema(file: Path) -> str:
    return file.stem if file.parent == CONF else file.parent.name


def find_errors(name: str, values: Any) -> list[str]:
    """What a schema says against values."""
    validator = jsonschema.Draft7Validator(schemas()[name])
    return [error.message for error in validator.iter_errors(values)]


def read(file: Path) -> Any:
    """A YAML as hydra reads it: 1e-3 is a number there."""
    return OmegaConf.to_container(OmegaConf.load(file), resolve=False)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONF)))
def test_every_yaml_is_valid(file: Path):
    assert find_errors(find_schema(file), read(file)) == []


def test_every_schema_is_one():
    for schema in schemas().values():
        jsonschema.Draft7Validator.check_schema(schema)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("attention/gqa", {"kv_head": 2}),  # no such knob
        ("attention/gqa", {"kv_heads": "many"}),
        ("attention/gqa", {"kv_heads": 1.5}),
        ("attention/gqa", {"qk_norm": "sometimes"}),
        ("attention/gqa", {"_target_": "gptlab.model.attention.softmax.SoftAttention"}),
        ("attention/gqa", {"_partial_": False}),
        ("optimizer/adamw", {"betas": [0.9]}),
        ("optimizer/adamw", {"betas": [0.9, 0.99, 0.999]}),
        ("model/nano", {"width": 0}),
        ("model/nano", {"widht": 64}),
        ("tracking/offline", {"mode": "sometimes"}),
        ("train", {"steps": "many"}),
        ("train", {"steps": 0}),
        ("train", {"compile": "maybe"}),
        ("train", {"evaluation": {"evry": 3}}),
        ("train", {"design": "grid"}),  # a study's
        ("train", {"defaults": [{"attention": "gqaa"}]}),
        ("ablate", {"design": "girds"}),
        ("ablate", {"looks": "three"}),
        ("experiment/sprint", {"defaults": [{"override /attention": "gqaa"}]}),
        ("experiment/sprint", {"attention": {"kv_head": 2}}),
        ("experiment/sprint", {"optimizer": {"lr": "fast"}}),
    ],
)
def test_a_wrong_knob_value_or_choice_is_refused(file: str, changes: dict[str, Any]):
    values = read(CONF / f"{file}.yaml")
    name = find_schema(CONF / f"{file}.yaml")
    assert find_errors(name, values) == []
    assert find_errors(name, {**values, **changes}), changes


def test_a_knob_that_is_left_out_is_missed():
    values = read(CONF / "attention" / "gqa.yaml")
    del values["kv_heads"]
    assert find_errors("attention", values)


def test_values_may_be_computed_from_others():
    values = read(CONF / "attention" / "gqa.yaml")
    assert find_errors("attention", {**values, "window": "${model.context}", "dropout": "${dropout}"}) == []


def test_a_class_of_a_package_of_ones_own_is_left_to_the_programs():
    node = {"_target_": "mypackage.idea.Idea", "_partial_": True, "anything": 3}
    assert find_errors("attention", node) == []


def test_a_knob_says_what_it_means_where_an_editor_shows_it():
    (case,) = [
        case["then"]["properties"]
        for case in schemas()["attention"]["allOf"]
        if case["if"]["properties"]["_target_"]["const"].endswith("SoftmaxAttention")
    ]
    assert "description" in case["kv_heads"]


def test_the_editor_is_told_of_every_file(tmp_path: Path):
    settings = json.loads((ROOT / ".vscode" / "settings.json").read_text())
    assert settings == make_editor_settings(schemas(), "schemas")
    files = {file for pattern in settings["yaml.schemas"].values() for file in ROOT.glob(pattern)}
    assert files == {*FILES}
    written = {path.name for path in write_schemas(schemas(), tmp_path)}
    assert {Path(name).name for name in settings["yaml.schemas"]} == written
