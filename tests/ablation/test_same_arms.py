"""Laws of arms that are one function under two names: found by what they compute, left out, and counted once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import planted_runs as planted
import pytest
from conftest import choices, composed, menu
from tiny_runs import program, tiny

from gptlab.ablation.arms.same_function import find_same_functions
from gptlab.compose import compose
from gptlab.config.recipe import PARTS, Recipe
from gptlab.stats.results import Run

SIZES = ["model=nano", "model.width=16", "model.heads=4", "model.layers=2", "model.context=16"]


def same(**arms: list[str]) -> dict[str, str]:
    return find_same_functions({name: compose([*SIZES, *words]) for name, words in arms.items()})


@pytest.mark.parametrize("slot", PARTS)
def test_no_two_choices_of_a_slot_are_one_function_at_their_defaults(slot: str):
    config, nodes = composed(*SIZES).config, menu(*SIZES)[slot]
    arms = {choice: Recipe(config | {slot: nodes[choice]}) for choice in choices(slot)}
    assert find_same_functions(arms) == {}
    assert find_same_functions(arms | {"second": arms[choices(slot)[0]]}) == {"second": choices(slot)[0]}


def test_a_window_of_the_context_and_a_layout_of_one_kind_are_found():
    found = same(
        mha=[],
        heads=["attention=gqa", "attention.kv_heads=4"],
        whole=["attention=swa", "attention.window=16"],
        windows=["attention=local_global", "attention.kinds.local.window=20"],
        full=["attention=hybrid", "attention.layout=[full]"],
        shorter=["attention=swa", "attention.window=15"],
        scaled=["attention.scale=0.5"],  # 1 / sqrt(4), which is the default here
        dropped=["attention.dropout=0.1"],
        capped=["attention.softcap=50"],
    )
    assert found == dict.fromkeys(("heads", "whole", "windows", "full", "scaled"), "mha")


def test_a_layout_longer_than_the_depth_is_its_last_kind():
    one = ["model.layers=1"]
    found = same(mha=one, hybrid=[*one, "attention=hybrid"], local_global=[*one, "attention=local_global"])
    assert found == {"hybrid": "mha", "local_global": "mha"}


def test_other_first_values_and_other_training_are_other_arms():
    assert same(plain=[], drawn=["init=torch"], slower=["model.lr=1e-4"], other=["optimizer=muon"]) == {}


def test_a_second_name_is_said_in_the_bill_and_left_out(tmp_path: Path):
    words = [*tiny(tmp_path), "timing=0", "dry_run=true"]
    arms = tmp_path / "arms.yaml"
    arms.write_text("window: [attention=swa, attention.window=16]\nplain: []\nshared: [attention=gqa]\n")
    done = program("ablate.py", *words, f"arms={arms}", "model.heads=2")
    assert done.status == 0, done.err
    assert "window and plain are one arm with two names" in " ".join(done.out.split())
    assert "6 cells" in done.out  # plain stays, being the baseline
    arms.write_text("window: [attention=swa, attention.window=16]\nplain: []\n")
    alone = program("ablate.py", *words, f"arms={arms}")
    assert (alone.status, alone.err.count("\n")) == (2, 1)
    assert "so nothing is left to compare; give another arm" in alone.err


# -- after: by equal losses


def doubled(of: str) -> list[Run]:
    """Planted runs in which the arm `twin` has the losses of another one, to the bit."""
    runs = planted.runs(5, other=-0.1, third=0.002)
    return [*runs, *(replace(run, arm="twin") for run in runs if run.arm == of)]


@pytest.mark.parametrize(("of", "verdict"), [("base", "equivalent"), ("other", "better")])
def test_arms_of_equal_losses_are_one_comparison(of: str, verdict: str):
    alone: Any = planted.loss(planted.judged(planted.runs(5, other=-0.1, third=0.002)))
    found = planted.loss(planted.judged(doubled(of)))
    contrasts = {contrast.arm: contrast for contrast in found.contrasts}
    assert contrasts["twin"].verdict == verdict
    first, second = sorted((of, "twin"), key=lambda arm: arm != of)
    assert f"{second} and {first} are one arm with two names: equal losses in all 5 seeds" in " ".join(found.notes)
    for contrast in alone.contrasts:  # nothing else is judged otherwise for a second name
        assert replace(contrasts[contrast.arm]) == contrast


def test_equal_losses_of_one_seed_say_nothing():
    runs = planted.runs(1, other=-0.1)
    found = planted.loss(planted.judged([*runs, *(replace(run, arm="twin") for run in runs if run.arm == "base")]))
    assert not any("two names" in note for note in found.notes)
