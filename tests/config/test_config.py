"""Laws of configs: what prints is what runs, what is equal has one hash, every choice passes the check."""

import ast
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from conftest import CONF, ROOT, SIZES, choices, composed, menu

from gptlab import compose as wiring
from gptlab.config.factory import check_node, list_knobs, locate, read_knobs
from gptlab.config.recipe import COSMETIC_KEYS, LISTS, SLOTS, Recipe, check_settings, flatten
from gptlab.config.typecheck import conforms, describe_type, explain_unknown
from gptlab.runs import fingerprint as fingerprints
from gptlab.runs.fingerprint import find_source, fingerprint, list_imports
from gptlab.runs.record import read_recipe


def printed(*arguments: str, cwd: Path = ROOT) -> str:
    """What train.py prints."""
    command = [sys.executable, "-W", "error", str(ROOT / "train.py"), *arguments]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    return subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, check=True).stdout


# -- printing


def test_the_printed_config_is_whole_and_makes_the_same_recipe(tmp_path: Path):
    overrides = ["attention=local_global", "model=nano", "optimizer.lr=1e-4", "experiment=gpt2", "clip=null"]
    plain = yaml.safe_load(printed("--cfg", "job", "--resolve", *overrides, cwd=tmp_path))
    assert "${" not in str(plain)
    assert plain == composed(*overrides).config
    assert Recipe(plain).hash == composed(*overrides).hash
    assert not wiring.check_recipe(Recipe(plain))
    assert not list(tmp_path.iterdir())


def test_a_config_survives_its_file(tmp_path: Path):
    made = composed("model=nano", "optimizer.lr=1e-5", "optimizer.eps=1e-12", "sample.prompt='1e5'", "name=null")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(made.config, sort_keys=False, allow_unicode=True))
    (tmp_path / "run.json").write_text('{"choices": {}, "differs": []}')
    assert read_recipe(tmp_path).config == made.config
    assert read_recipe(tmp_path).hash == made.hash


def test_help_lists_every_choice_of_every_slot():
    said = printed("--help")
    for slot in sorted(folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name != "hydra"):
        assert f"{slot}: {', '.join(choices(slot))}\n" in said


# -- every choice


@pytest.mark.parametrize("slot", sorted({*SLOTS, "model", "tracking", "experiment"} - {"trainer"}))
def test_every_choice_passes_the_check(slot: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    (tmp_path / "some.txt").write_text("some")
    (tmp_path / "some.bin").write_bytes(b"some")
    (tmp_path / "asked.jsonl").write_text('{"question": "a", "answer": "b", "sentence_good": "a", "sentence_bad": "b"}')
    paths = {"huggingface": "owner/name", "shards": f"{tmp_path}/some.bin", "text": f"{tmp_path}/some.txt"}
    paths["stream"] = "owner/name"
    paths |= dict.fromkeys(("answer_bits", "minimal_pairs"), f"{tmp_path}/asked.jsonl")
    for choice in choices(slot):
        if slot not in SLOTS or (slot == "data" and choice not in paths):  # a task brings its tokenizer and its metric
            # wide enough for the longest examples of every task
            wide = ["model.context=256"] if slot == "data" else []
            assert wiring.check_recipe(composed(f"{slot}={choice}", *wide)) == []
            continue
        if choice == "symbols":  # of tasks alone, which are checked with it
            continue
        node = menu()[slot][choice]
        if choice in paths:
            node = {**node, "path": paths[choice]}
        brought = {"tokenizer": menu()["tokenizer"]["gpt2"]} if choice == "stream" else {}
        config = {**composed().config, **brought, slot: {choice: node} if slot in LISTS else node}
        assert wiring.check_recipe(Recipe(config)) == [], choice


def test_an_experiment_overrules_the_defaults_and_is_overruled():
    assert composed("experiment=gpt2").config["norm"]["_target_"].endswith("LayerNorm")
    assert composed("experiment=gpt2", "norm=rmsnorm").config["norm"]["_target_"].endswith("RMSNorm")


def test_gqa_and_swa_fit_any_size():
    assert composed("attention=gqa", "model.width=60", "model.heads=15").config["attention"]["kv_heads"] == 5
    assert composed("attention=gqa", "model.width=7", "model.heads=7").config["attention"]["kv_heads"] == 1
    assert composed("attention=swa", "model.context=2").config["attention"]["window"] == 2


def test_a_value_may_refer_to_another():
    assert composed("batch_size=${model.heads}", "model.heads=2").config["batch_size"] == 2


# -- W&B's mode


@pytest.mark.parametrize(("variable", "override", "mode"), [
    (None, [], "offline"),
    ("online", [], "online"),
    ("disabled", [], "disabled"),
    ("online", ["tracking=offline"], "offline"),
    ("disabled", ["tracking=auto"], "auto"),
])  # fmt: skip
def test_the_mode_of_the_environment_beats_the_default_alone(
    variable: str | None, override: list[str], mode: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if variable:
        monkeypatch.setenv("WANDB_MODE", variable)
    made = wiring.compose(override)
    assert made.config["tracking"]["mode"] == mode
    assert made.label == "micro-s0"


# -- hash and name


def test_the_hash_ignores_what_changes_no_number():
    usual = composed().hash
    assert re.fullmatch(r"[0-9a-f]{8}", usual)
    for key, value in {"name": "x", "resume": "auto", "outputs": "elsewhere", "tracking": "disabled"}.items():
        assert key in COSMETIC_KEYS
        assert composed(f"{key}={value}").hash == usual
    assert composed("tracking.project=x", "tracking.tags=[a,b]").hash == usual


def test_the_hash_is_that_of_values_however_they_were_written():
    assert composed("attention.kv_heads=1").hash == composed("attention=mqa").hash
    assert composed("clip=1").hash == composed("clip=1.0").hash == composed("clip=1e0").hash
    assert composed("seed=3", "steps=5").hash == composed("steps=5", "seed=3").hash


def test_the_hash_changes_with_every_other_key():
    made = composed()
    seen = {made.hash}
    for key in flatten(made.config):
        if key.split(".")[0] not in COSMETIC_KEYS:
            changed = changed_at(made.config, key.split("."))
            seen.add(Recipe(changed).hash)
    assert len(seen) == 1 + sum(key.split(".")[0] not in COSMETIC_KEYS for key in flatten(made.config))


def changed_at(config: Any, path: list[str]) -> Any:
    """The config with another value at a path."""
    if not path:
        return f"other than {config}"
    return {**config, path[0]: changed_at(config[path[0]], path[1:])}


@pytest.mark.parametrize(("overrides", "label"), [
    ("", "micro-s0"),
    ("model=nano attention=gqa seed=3", "nano-gqa-s3"),
    ("experiment=gpt2 model=mini", "mini-gpt2-s0"),
    ("experiment=gpt2 norm=rmsnorm", "micro-gpt2-rmsnorm-s0"),
    ("attention=swa model.context=128", "micro-swa-context_128-s0"),
    ("attention=local_global attention.kinds.local.window=8", "micro-local_global-window_8-s0"),
    ("model.width=96 model.heads=6 dropout=0.1 clip=null", "micro-dropout_0.1-clip_null-width_96-heads_6-s0"),
    ("optimizer.betas=[0.8,0.9]", "micro-betas_0.8_0.9-s0"),
    ("data=text data.path=/some/where.txt", "micro-text-s0"),
    ("trainer=cpu sample.count=3 log_every=7 name=x tracking=disabled", "micro-s0"),
    ("seed=-4", "micro-s-4"),
])  # fmt: skip
def test_a_run_is_named_by_what_was_asked_for(overrides: str, label: str):
    assert composed(*overrides.split()).label == label


def test_a_long_name_ends_with_a_whole_part():
    words = (
        "attention.short_conv=4 attention.qk_norm=whole attention.gate=head attention.sink=true attention.qk_clip=0.125"
    )
    cut = composed("model=nano", "position.fraction=0.5", *words.split()).label
    assert cut == "nano-short_conv_4-qk_norm_whole-qk_clip_0.125-gate_head-sink_true-fraction_0.5-s0"


@pytest.mark.parametrize(
    "words",
    [
        "attention=swa attention.window=8 norm=layernorm steps=7",
        "attention=hybrid steps=2000 mlp=moe",
        "data=copy metric=[answer_accuracy] batch_size=12 optimizer=lion",
        "experiment=gpt2 position=alibi optimizer.lr=1e-4 dropout=0.0",
    ],
)
def test_what_differs_does_not_depend_on_choices_that_set_their_own_part_alone(
    words: str, monkeypatch: pytest.MonkeyPatch
):
    differs = composed(*words.split()).differs
    monkeypatch.setattr(wiring, "select_choices_that_reach", lambda words, keys: words)
    assert composed(*words.split()).differs == differs


def test_arms_that_differ_in_parts_share_the_composition_of_their_defaults():
    composed("attention=gqa", "steps=7")
    before = wiring._compose_defaults.cache_info().misses
    composed("attention=mla", "norm=dyt", "steps=7")
    assert wiring._compose_defaults.cache_info().misses == before
    # a knob of attention has the default that its choice gives it
    composed("attention=mla", "attention.rank=11", "steps=7")
    assert wiring._compose_defaults.cache_info().misses == before + 1


def test_names_of_folders_are_short_and_fit_for_every_file_system():
    layout = f"attention.layout=[{','.join(['local'] * 40)}]"
    nasty = composed("compile='../a b\\/:*?\"<>|é'", "attention=local_global", layout)
    long = composed(*(f"model.{size}=120" for size in ("width", "heads", "layers", "context", "batch_size")))
    for made in (nasty, long):
        assert re.fullmatch(r"[\w.+-]+", made.folder, re.ASCII)
        assert len(made.folder) < 110
        assert made.folder.endswith(f"-s0-{made.hash}")


# -- types


@pytest.mark.parametrize(("value", "wanted", "fits"), [
    (1, int, True), (True, int, False), (1.0, int, False), ("1", int, False),
    (1, float, True), (False, float, False), (None, float, False), (None, float | None, True),
    (math.nan, float, False), (math.inf, float | None, False), (-math.inf, float, False), (10**400, float, False),
    ([0.9, math.nan], list[float], False), (True, bool, True), (1, bool, False), ("x", str, True), (1, str, False),
    ("a", Literal["a", "b"], True), ("c", Literal["a", "b"], False), (True, Literal[1], False),
    ([1, 2], list[int], True), ([1, "x"], list[int], False), ("ab", list[str], False), ([], list[str], True),
    ([0.9, 1], tuple[float, float], True), ([0.9], tuple[float, float], False), (0.9, tuple[float, float], False),
    ({"a": 1}, dict[str, int], True), ({"a": "x"}, dict[str, int], False),
    ({"_target_": "gptlab.x"}, Callable[..., Any], True), ({}, Callable[..., Any], False), (object(), Any, True),
])  # fmt: skip
def test_plain_values_conform_to_annotations(value: Any, wanted: Any, fits: bool):
    assert conforms(value, wanted) is fits


@pytest.mark.parametrize("slot", SLOTS)
def test_no_knob_of_any_choice_takes_nan_or_infinity(slot: str):
    for choice, node in menu(*SIZES)[slot].items():
        numbers = [key for key, p in read_knobs(locate(node["_target_"], slot)).items() if conforms(0.5, p.annotation)]
        for key in {*numbers} & {*list_knobs(node)}:
            for value in (math.nan, math.inf, -math.inf):
                path = f"{slot}.{choice}" if slot in LISTS else slot
                assert any(f"{key}={value} is not" in line for line in check_node({**node, key: value}, path)), key


@pytest.mark.parametrize(("wanted", "words"), [
    (int, "an int"), (float | None, "a number or null"), (bool, "true or false"), (str, "a string"),
    (Literal["a", 1], "one of a, 1"), (Callable[..., Any], "a choice"),
    (list[int], "a list of ints"), (dict[str, list[str]] | str | None, "lists of strings by name or a string or null"),
    (list[int | None], "a list of values, each an int or null"), (dict[str, float], "numbers by name"),
])  # fmt: skip
def test_types_are_described_in_words(wanted: Any, words: str):
    assert describe_type(wanted) == words
    for kind in (list[int], tuple[float, float], dict[str, Callable]):
        assert "typing" not in describe_type(kind)
        assert "<" not in describe_type(kind)


def test_settings_are_typed_once_since_each_step_asks_for_them():
    made = composed("steps=40")
    assert made.settings is made.settings
    assert replace(made, config=made.config | {"steps": 41}).settings.steps == 41


def test_all_that_is_wrong_with_settings_is_told():
    config = composed().config
    wrong = check_settings({**config, "steps": "x", "sede": 1, "model": {**config["model"], "heads": None}})
    assert wrong == [
        "sede: no such key; did you mean seed?",
        "steps='x' is not an int",
        "model.heads=null is not an int",
    ]
    assert check_settings({key: value for key, value in config.items() if key != "model"}) == ["model: no value given"]


def test_unknown_keys_get_the_nearest_or_all():
    assert (
        explain_unknown("model.widht", ["width", "heads"], "model.")
        == "model.widht: no such key; did you mean model.width?"
    )
    assert explain_unknown("foo", ["width", "heads"]) == "foo: no such key; known: heads, width"


# -- the fingerprint of code


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, which fingerprints are taken of."""
    shutil.copytree(ROOT / "src" / "gptlab", tmp_path / "gptlab", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprints, "ROOT", tmp_path)
    return tmp_path / "gptlab"


def test_the_fingerprint_is_of_code_in_the_closure_alone(copied: Path):
    roots = ["gptlab.training.task", "gptlab.model.attention.softmax", "gptlab.model.position.rope"]
    first = fingerprint(roots)
    assert re.fullmatch(r"[0-9a-f]{8}", first)

    def after(name: str, edit: Callable[[str], str]) -> str:
        path = copied / name
        before = path.read_text()
        path.write_text(edit(before))
        found = fingerprint(roots)
        path.write_text(before)
        return found

    for name in ("model/position/alibi.py", "runs/tracker.py", "__main__.py"):
        assert after(name, lambda text: f"{text}\nextra = 1\n") == first, name
    (copied / "model" / "attention" / "new.py").write_text("from gptlab.model.attention import Attention\n")
    assert fingerprint(roots) == first
    for name in (
        "training/task.py",
        "model/attention/softmax.py",
        "model/attention/__init__.py",
        "model/attention_kernels.py",
        "model/position/rope.py",
    ):
        assert after(name, lambda text: f"# said\n\n{text}\n\n# more\n") == first, name
        assert after(name, lambda text: f"{text}\nextra = 1\n") != first, name
    assert fingerprint(roots[:1]) != first
    assert fingerprint(reversed(roots)) == first


def test_sources_are_parsed_once_and_again_when_they_change(copied: Path):
    first = fingerprint(["gptlab.training.task"])
    parsed = fingerprints._parse_source.cache_info().misses
    assert fingerprint(["gptlab.training.task"]) == first
    assert fingerprints._parse_source.cache_info().misses == parsed
    changed = copied / "training" / "task.py"
    changed.write_text(f"{changed.read_text()}\nextra = 1\n")
    assert fingerprint(["gptlab.training.task"]) != first
    assert fingerprints._parse_source.cache_info().misses == parsed + 1


def test_a_module_that_is_gone_has_no_fingerprint(copied: Path):
    with pytest.raises(ModuleNotFoundError, match=r"no module gptlab\.gone"):
        fingerprint(["gptlab.training.task", "gptlab.gone"])
    (copied / "model" / "mask.py").unlink()  # imported by the attention, not named
    with pytest.raises(ModuleNotFoundError, match=r"no module gptlab\.model\.mask"):
        fingerprint(["gptlab.model.attention.softmax"])


def test_imports_are_followed_to_files_of_the_package():
    tree = ast.parse(
        "import torch\nfrom gptlab.model import mask\nfrom gptlab.model.shape import Shape\n"
        "import gptlab.model.attention_kernels\n"
    )
    assert {"gptlab.model.mask", "gptlab.model.shape", "gptlab.model.attention_kernels"} <= set(list_imports(tree))
    assert find_source("gptlab.model.shape") == ROOT / "src" / "gptlab" / "model" / "shape.py"
    assert find_source("gptlab.model.attention") == ROOT / "src" / "gptlab" / "model" / "attention" / "__init__.py"
    assert find_source("gptlab.model.shape.Shape") is find_source("torch") is None
