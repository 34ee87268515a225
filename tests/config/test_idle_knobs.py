"""Parts and knobs that do little with the rest as it is are named, and no default is among them."""

import pytest
from conftest import composed
from tiny_runs import COMPARED, program, tiny

from gptlab.config.idle_knobs import describe_idle_decay, describe_idle_knobs


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("attention=swa attention.window=1", "attention.window=1: a token sees itself alone"),
        ("attention=swa attention.window=64", "attention.window=64 hides nothing in a context of 64"),
        (
            "attention=local_global model.context=8 attention.kinds.local.window=9",
            "attention.kinds.local.window=9 hides",
        ),
        ("attention=local_global model.layers=1", "attention.layout has 4 layers and the model 1: local never occurs"),
        (
            "attention=local_global attention.last=null",
            "attention.layout has 4 layers and the model 2: full never occurs",
        ),
        ("mlp=moe mlp.top_k=4", "mlp.top_k=4 is all of its experts"),
        ("position=rope_local_global", "position.theta differs by layer and no window of attention does"),
        ("change=[prune] change.prune.start=0 change.prune.ramp=0", "change=[prune] with start=0 and ramp=0"),
        ("change=[lora]", "change=[lora] without pretrained"),
        ("optimizer.lr=0", "optimizer.lr=0: nothing is learnt"),
        ("optimizer=schedule_free", "optimizer=schedule_free averages weights in place of a rate that falls"),
        ("callback=[last_k] callback.last_k.every=500", "callback=[last_k] averages nothing: every=500 is beyond"),
    ],
)
def test_what_does_little_is_named(words: str, line: str):
    (said,) = describe_idle_knobs(composed("model=nano", "steps=400", *words.split()).config)
    assert said.startswith(line)


@pytest.mark.parametrize(
    "words",
    [
        "model=nano",
        "attention=hybrid",
        "attention=local_global position=rope_local_global",
        "mlp=moe",
        "optimizer=schedule_free schedule=constant",
        "change=[prune]",
    ],
)
def test_what_acts_is_not(words: str):
    assert not [*describe_idle_knobs(composed(*words.split()).config)]


def test_a_decay_that_shrinks_nothing_is_named_by_how_much_it_does():
    config = composed("model=nano", "steps=100").config
    # 100 steps x 4e-3 x 0.1, at half the peak rate
    (line,) = describe_idle_decay(config, 0.5)
    assert line.startswith("optimizer.weight_decay=0.1 shrinks weights by 2.0% in the whole run")
    assert not [*describe_idle_decay({**config, "steps": 400}, 0.5)]
    assert not [*describe_idle_decay(composed("optimizer=sgd", "steps=1").config, 0.5)]


@pytest.mark.parametrize(
    ("axis", "line"),
    [
        ("attention.window=4,16", "attention.window=16 hides nothing in a context of 16"),
        ("optimizer.weight_decay=0,0.1", "optimizer.weight_decay=0.1 shrinks weights by"),
    ],
)
def test_the_bill_of_a_study_names_the_arms(axis: str, line: str, tmp_path):
    done = program("ablate.py", *tiny(tmp_path, "steps=5", "attention=swa", "dry_run=true", axis))
    assert done.status in COMPARED, done.err
    assert line in done.out
    # it begins with the arm, which is not said again in front
    assert f": {line}" not in done.out
