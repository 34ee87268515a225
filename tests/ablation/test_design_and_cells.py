"""Axes become arms, arms cells: pure."""

from functools import cache
from typing import Any

import pytest
from conftest import composed

from gptlab import compose as wiring
from gptlab.ablation import design
from gptlab.ablation.cells import (
    Variant,
    drop_duplicates,
    hash_without_seed,
    make_baseline_cells,
    make_cells,
    make_confirmation_cells,
    make_study_name,
    refuse_shared_cells,
)
from gptlab.ablation.options import KNOBS, StudyOptions, check_options
from gptlab.config.recipe import set_values
from gptlab.errors import Refused
from gptlab.stats.labels import find_arm, label_arm, read_label

AXES = {"attention": ["gqa", "mha"], "norm": ["layernorm", "rmsnorm"], "mlp": ["gelu", "swiglu"]}
USUAL = {"attention": "mha", "norm": "rmsnorm", "mlp": "swiglu"}


@cache
def usual() -> dict[str, Any]:
    """What conf/ablate.yaml says."""
    return wiring.compose_config([], "ablate")[1]


def knobs(**values: object) -> StudyOptions:
    return check_options({**usual(), "seeds": 2, "lr_grid": [0.5, 5], **values})


def variant(*words: str) -> Variant:
    return Variant(read_label(" ".join(words)), [*words], composed("model=nano", *words))


def test_a_grid_is_the_product_in_the_order_asked():
    found = design.combine_axes(AXES, "grid", USUAL)
    assert found[:2] == [("gqa", "layernorm", "gelu"), ("gqa", "layernorm", "swiglu")]
    assert len(set(found)) == 8


def test_a_star_changes_one_axis_at_a_time():
    centre, *others = design.combine_axes(AXES, "star", USUAL)
    assert centre == ("mha", "rmsnorm", "swiglu")
    assert [sum(a != b for a, b in zip(arm, centre, strict=True)) for arm in others] == [1, 1, 1]


def test_a_star_without_the_usual_value_stands_on_the_first():
    assert design.combine_axes({"attention": ["gqa", "swa"]}, "star", USUAL) == [("gqa",), ("swa",)]


def test_leave_one_out_goes_back_one_change_at_a_time():
    full, *others = design.combine_axes(AXES, "leave_one_out", USUAL)
    assert full == ("gqa", "layernorm", "gelu")
    assert set(others) == {("mha", "layernorm", "gelu"), ("gqa", "rmsnorm", "gelu"), ("gqa", "layernorm", "swiglu")}
    with pytest.raises(Refused, match="two values"):
        design.combine_axes({"attention": ["gqa", "mha", "swa"]}, "leave_one_out", USUAL)


def test_an_arm_is_named_by_what_it_changes():
    arm = ("gqa", "rmsnorm", "swiglu")
    values = design.choose_shown_values(AXES, arm)
    assert label_arm(values) == "attention=gqa norm=rmsnorm mlp=swiglu"
    assert design.choose_shown_values(AXES, arm, tuple(USUAL.values())) == (("attention", "gqa"),)
    assert design.choose_shown_values(AXES, arm, arm) == design.BASELINE
    assert design.choose_shown_values({"mlp": ["gelu"]}, ("gelu",), ("gelu",)) == (("mlp", "gelu"),)
    assert design.choose_shown_values({"model": ["nano"], **AXES}, ("nano", *arm), size="model") == values
    assert label_arm(design.choose_shown_values({}, ())) == "default"


def test_an_arm_is_called_by_any_words_that_only_it_has():
    labels = ["attention=gqa norm=rmsnorm", "attention=mha norm=rmsnorm"]
    arms = {label: read_label(label) for label in labels}
    assert find_arm("gqa", arms) == find_arm("norm=rmsnorm,attention=gqa", arms) == labels[0]
    with pytest.raises(Refused, match="may be"):
        find_arm("rmsnorm", arms)
    with pytest.raises(Refused, match="no arm"):
        find_arm("mqa", arms)


@pytest.mark.parametrize("label", ["float", "ptq width=4", "l1, untrained sparsity=0.5", "attention=gqa norm=rmsnorm"])
def test_an_arm_of_a_studys_own_keeps_its_name(label: str):
    assert label_arm(read_label(label)) == label


def test_an_axis_is_without_effect_only_if_it_never_has_one():
    axes = {"a": ["1", "2"], "b": ["x", "y"]}
    assert design.find_dead_axes(axes, {("1", "x"): "p", ("2", "x"): "p", ("1", "y"): "q", ("2", "y"): "q"}) == ["a"]
    assert not design.find_dead_axes(axes, {("1", "x"): "p", ("2", "x"): "p", ("1", "y"): "q", ("2", "y"): "r"})


def test_what_changes_no_number_has_no_signature():
    plain = composed("model=nano")
    assert hash_without_seed(plain) == hash_without_seed(
        set_values(plain, seed=5, save_every=3, model__lr=1.0, name="x")
    )
    assert hash_without_seed(plain) != hash_without_seed(set_values(plain, optimizer__lr=1.0))
    assert hash_without_seed(plain) != hash_without_seed(composed("model=nano", "attention=gqa"))


def test_a_knob_set_afterwards_is_the_one_of_the_command_line():
    said = composed("model=nano", "optimizer.lr=0.003", "steps=30", "seed=4")
    set_later = set_values(composed("model=nano"), optimizer__lr=0.003, steps=30, seed=4)
    assert set_later.hash == said.hash
    assert sorted(set_later.differs) == sorted(said.differs)


def test_seeds_are_outermost_so_that_blocks_are_whole():
    found = make_cells(knobs(), [variant(), variant("attention=gqa")])
    assert [(cell.recipe.config["seed"], cell.variant.name) for cell in found] == [
        *((0, "default"), (0, "attention=gqa")),
        *((1, "default"), (1, "attention=gqa")),
    ]


def test_a_learning_rate_grid_is_multiples_of_each_arms_own_rates():
    arms = [variant(), variant("optimizer=muon")]
    cells = make_cells(knobs(tune="grid", seeds=1), arms)
    for arm, pair in zip(arms, (cells[:2], cells[2:]), strict=True):
        own = arm.recipe.config["optimizer"]
        for cell, multiple in zip(pair, (0.5, 5), strict=True):
            tuned = cell.recipe.config["optimizer"]
            assert cell.variant is arm
            assert cell.lr == tuned["lr"] == pytest.approx(own["lr"] * multiple)
            assert {k: tuned[k] / own[k] for k in own if k.endswith("_lr")} == pytest.approx(
                {k: multiple for k in own if k.endswith("_lr")}
            )
            assert composed("model=nano", *cell.overrides).hash == cell.recipe.hash  # the words that train it alone


def test_budgets_and_the_twin_are_the_baselines():
    base = variant()
    found = make_baseline_cells(knobs(seeds=1, budget=[0.5, 1, 2], aa=True), base)
    assert [(c.role, c.budget) for c in found] == [("budget", 0.5), ("budget", 2), ("twin", 1)]
    steps = base.recipe.config["steps"]
    assert [c.recipe.config["steps"] for c in found[:2]] == [steps // 2, 2 * steps]
    (plain,) = make_cells(knobs(seeds=1), [base])
    assert plain.recipe.hash == found[-1].recipe.hash
    assert plain.key != found[-1].key
    assert len(drop_duplicates([plain, *found, *found])) == 4
    tuned = make_baseline_cells(knobs(seeds=1, budget=[2], aa=True), base, 0.01)
    assert {c.recipe.config["optimizer"]["lr"] for c in tuned} == {0.01}


SHARED_CELLS: list[tuple[dict[str, Any], list[str], str]] = [
    ({"controls": True}, ["steps=5"], "controls=true: 0.95x of steps=5 is 5 steps too; give more steps"),
    ({"budget": [0.9, 1]}, ["steps=4"], r"budget=\[0.9, 1\]: 0.9x of steps=4 is 4 steps too; give more steps"),
    ({"budget": [0.5]}, ["steps=40"], "runs steps=40 0.5x, which is steps=20 already; leave one of them out"),
    ({"budget": [0.5, 0.51]}, ["steps=30"], "runs steps=30 0.51x, which is steps=30 0.5x already"),
]


@pytest.mark.parametrize(("options", "words", "problem"), SHARED_CELLS)
def test_a_budget_that_is_the_run_of_an_arm_is_refused(options: dict[str, Any], words: list[str], problem: str):
    # it would take the arm's place, whose seeds would be missing from every table
    base = variant(*words)
    with pytest.raises(Refused, match=problem):
        refuse_shared_cells(knobs(**options), base, [base, variant("steps=20")])


def test_budgets_and_controls_that_are_runs_of_their_own_are_not_refused():
    base = variant("steps=20")
    refuse_shared_cells(knobs(controls=True, budget=[0.5, 1, 2]), base, [base, variant("attention=gqa", "steps=20")])


def test_a_confirmation_is_on_seeds_that_nothing_has_used():
    found = make_confirmation_cells(
        knobs(seeds=[2, 7], confirm=2), [(variant(), None), (variant("attention=gqa"), 0.01)]
    )
    assert [c.recipe.config["seed"] for c in found] == [8, 8, 9, 9]
    assert found[1].recipe.config["optimizer"]["lr"] == 0.01


def test_more_seeds_are_the_same_study_and_another_question_another():
    base, axes = composed("model=nano"), {"attention": ["gqa", "mha"]}
    name = make_study_name(axes, base, knobs())
    assert name == make_study_name(axes, base, knobs(seeds=5, confirm=3, aa=True, budget=[2.0]))
    assert (
        len(
            {
                name,
                make_study_name(axes, base, knobs(match="params")),
                make_study_name(axes, set_values(base, steps=7), knobs()),
            }
        )
        == 3
    )


def test_a_long_name_ends_with_a_word():
    base = composed("model=nano")
    axes = {slot: ["learned", "sinusoidal"] for slot in ("a", "b", "c", "d")}
    name = make_study_name(axes, base, knobs()).rpartition("-")[0]
    assert name == "a_learned_sinusoidal-b_learned_sinusoidal-c_learned"
    endless = make_study_name({"x" * 99: ["1"]}, base, knobs()).rpartition("-")[0]
    assert endless == "x" * 60


def test_a_baseline_may_be_named_by_a_number():
    assert knobs(baseline=2).baseline == "2"
    assert knobs(baseline=0.001).baseline == "0.001"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"seeds": 0}, "seeds=0"),
        ({"seeds": []}, "seeds="),
        ({"seeds": [-1]}, "a seed is in"),
        ({"budget": [0.0]}, "budget="),
        ({"confirm": 1}, "confirm=1"),
        ({"tune": "grid", "lr_grid": [0.5]}, "lr_grid="),
        ({"tune": "grid", "lr_grid": [1e-3, 1e-2]}, "lr_grid="),
        ({"lr_grid": [0.0, 1.0]}, "lr_grid="),
        ({"delta": -1.0}, "delta="),
        ({"timing": -1.0}, "timing="),
        ({"match": "width"}, "match="),
        ({"aa": 1}, "aa=1"),
    ],
)  # fmt: skip
def test_knobs_out_of_range_are_refused(wrong: dict[str, object], told: str):
    with pytest.raises(Refused, match=told):
        knobs(**wrong)


def test_every_knob_of_the_yaml_is_typed():
    assert set(usual()) - set(wiring.compose_config([])[1]) == {*KNOBS, "cell"}
