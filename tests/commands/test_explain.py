"""Laws of python -m gptlab explain: every choice has its words, and the costs are those of the built decoder."""

import inspect
import re
import subprocess
import sys

import pytest
import yaml
from conftest import CONF, choices, composed
from test_cli import gptlab
from typer.testing import CliRunner

from gptlab.__main__ import app
from gptlab.ablation.options import StudyOptions
from gptlab.commands import explain
from gptlab.commands.slots import describe_menu
from gptlab.config.factory import locate
from gptlab.config.recipe import KNOB_SLOTS, PARTS, SLOTS
from gptlab.model.costs import count_forward_flops
from gptlab.training.build import build_decoder

EVERY = [(slot, choice) for slot in explain.list_slots() for choice in choices(slot)]


def said(*arguments: str) -> str:
    """What explain prints."""
    done = CliRunner().invoke(app, ["explain", *arguments])
    assert done.exit_code == 0, done.exception
    return done.stdout


@pytest.mark.parametrize(("slot", "choice"), EVERY)
def test_every_choice_has_a_line(slot: str, choice: str):
    line = explain.summarize_choice(slot, choice)
    assert len(line) > 15
    assert "\n" not in line


@pytest.mark.parametrize(("slot", "choice"), EVERY)
def test_the_first_line_of_a_comment_is_whole_since_lists_show_it_alone(slot: str, choice: str):
    lines = explain.read_head_comment((CONF / slot / f"{choice}.yaml").read_text()).splitlines()
    if len(lines) > 1:
        assert re.search(r"[.?!]$|: python \w+\.py .*$", lines[0]), lines[0]


@pytest.mark.few(8)
@pytest.mark.parametrize("slot", [*SLOTS, *KNOB_SLOTS])
def test_what_is_said_of_a_choice_is_its_file_its_words_and_its_knobs(slot: str):
    choice = choices(slot)[0]
    text = said(f"{slot}={choice}")
    assert text.startswith(f"{slot}={choice}   src/gptlab/")
    assert f"conf/{slot}/{choice}.yaml" in text.splitlines()[0]
    for line in (CONF / slot / f"{choice}.yaml").read_text().splitlines():
        assert (line in text) == (not line.startswith(explain.NOT_KNOBS)) or line.startswith(("#", "  - "))


@pytest.mark.parametrize(("slot", "choice"), EVERY)
def test_every_knob_has_a_line_in_its_class_or_in_its_yaml(slot: str, choice: str):
    text = (CONF / slot / f"{choice}.yaml").read_text()
    node = yaml.safe_load(text)
    if not str(node.get("_target_")).startswith("gptlab."):  # settings alone
        return
    lines = text.splitlines()
    knobs = [knob for knob in explain.find_knobs(lines) if knob in node and not knob.startswith("_")]
    target = locate(node["_target_"], slot)
    _, meanings = explain.split_knob_list(inspect.cleandoc(target.__doc__ or ""), knobs)
    remarked = {line.partition(":")[0] for line in lines if "  # " in line}
    assert {*knobs} - {"defaults"} <= meanings.keys() | remarked


@pytest.mark.parametrize("word", ["attention.qk_clip", "embedding_scale", "evaluation.every"])
def test_a_knob_or_a_setting_is_referred_to_the_menu_that_has_it(word: str):
    done = CliRunner().invoke(app, ["explain", word])
    assert f"python -m gptlab slots {word} lists what has it" in str(done.exception)
    assert any(describe_menu(StudyOptions, word).values())


SOURCE = re.compile(r"arXiv:\d{4}\.\d{4,5}|github\.com/|[A-Z]\w+ (?:19|20)\d\d\b")
"""A paper, a repository, or an author and a year."""
WITHOUT_SOURCE = {"none", "nope", "sequential", "token", "torch", "constant", "learned_concat", "tied", "untied"}
"""Choices that are nothing, or nobody's; the heads of their files say so."""


@pytest.mark.parametrize(("slot", "choice"), [
    (slot, choice)
    for slot in (*PARTS, "init", "optimizer", "schedule")
    for choice in choices(slot)
    if choice not in WITHOUT_SOURCE
])  # fmt: skip
def test_every_published_choice_names_its_source(slot: str, choice: str):
    assert SOURCE.search("\n".join(explain.describe_choice(composed(f"{slot}={choice}"), slot, choice).texts))


def test_a_list_of_knobs_is_told_from_other_lists():
    docstring = "A thing.\n\nwidth, depth  of it, null\n              is none\nother  no knob\n\nThe end."
    rest, meanings = explain.split_knob_list(docstring, ["width", "depth"])
    assert meanings == {"width": "of it, null is none", "depth": "of it, null is none"}
    assert rest == "A thing.\n\nother  no knob\n\nThe end."


def test_a_knob_is_told_once_with_its_value_and_its_meaning():
    text = said("attention=gqa")
    assert re.search(r"^window: null\n    keys that a query sees", text, re.M)
    assert text.count("keys that a query sees") == 1


def test_a_setting_of_a_shared_file_says_its_own_line():
    assert explain.summarize_choice("attention", "mqa").startswith("kv_heads = 1")
    listed = said("attention").splitlines()
    assert [line.split()[0] for line in listed] == choices("attention")


@pytest.mark.parametrize("slot", PARTS)
def test_costs_are_those_of_the_decoder_that_is_built(slot: str):
    recipe = composed("model=nano")
    found, made = explain.describe_costs(recipe, slot), build_decoder(recipe, explain.VOCAB)
    assert found["parameters"] == sum(p.numel() for p in made.parameters())
    assert found["FLOPs/token, forward"] == count_forward_flops(made, 64) / 64
    assert found["cache bytes/token"] == 2 * 2 * 64 * 4


def test_parameters_of_the_parts_are_those_of_the_whole():
    recipe = composed("model=nano", "bias=true", "readout=untied")
    found = [explain.describe_costs(recipe, slot)[f"of {slot}"] for slot in ("block", "readout")]
    rest = explain.VOCAB * 64 + 64  # the embedding, the last norm
    assert sum(found) + rest == explain.describe_costs(recipe, "mlp")["parameters"]


def test_a_choice_stands_beside_the_default_at_the_size_asked_for():
    text = said("attention=mqa", "model=nano")
    assert "at 2 layers x 64 wide, context 64, vocab 65" in text
    assert re.search(r"mqa +mha, the default", text)
    assert re.search(r"cache bytes/token +256 +1,024", text)
    assert "the default" not in said("attention=mha")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["attn"], "attn: no such slot; did you mean attention?"),
        (["attention=gqaa"], "attention=gqaa: no such option; choose from "),
        (["attention=gqa", "attention.kv_heads=3"], "attention.kv_heads=3 does not divide model.heads=4; try "),
        (["attention=gqa", "model.width=wide"], "model.width='wide' is not an int"),
    ],
)
def test_what_cannot_be_explained_is_told_in_one_line(arguments: list[str], line: str):
    done = gptlab("explain", *arguments)
    assert (done.returncode, done.stdout.count("\n") < 80) == (2, True)
    assert done.stderr.startswith(f"error: {line}")
    assert done.stderr.count("\n") == 1


def test_help_and_lists_import_no_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from gptlab.__main__ import app\n"
        "for asked in (['--help'], ['explain', 'attention']): assert CliRunner().invoke(app, asked).exit_code == 0\n"
        "print({'torch', 'lightning', 'wandb', 'jinja2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n"
