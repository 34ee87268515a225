"""Laws of the study that changes one size at a time."""

from pathlib import Path

import numpy as np
import pytest
from conftest import composed
from tiny_runs import program, tiny

from gptlab.errors import Refused
from gptlab.stats.elasticity import fit_elasticity, measure_elasticities
from gptlab.stats.labels import SizePoint
from gptlab.study.latency import SIZES, Latency, read_sizes
from gptlab.training.build import build_on_meta


@pytest.mark.parametrize("words", [("attention=mha",), ("mlp=moe", "attention=gqa", "attention.kv_heads=1")])
def test_one_size_is_changed_and_the_others_are_held(words: tuple[str, ...]):
    study = Latency(vocab=64)
    base, *points = study.make_points(composed("model=nano", *words)).items()
    own = read_sizes(build_on_meta(base[1].recipe, 64), base[1])
    alike = {"head": {"head", "head_shared"}, "head_shared": {"head", "head_shared", "heads"}}
    assert {name.partition("=")[0] for name, _ in points} == set(SIZES)
    for name, at in points:
        size, _, value = name.partition("=")
        found = read_sizes(build_on_meta(at.recipe, at.vocab), at)
        assert found[size] == int(value)
        moved = alike.get(size, {size}) if int(value) != own[size] else set()
        assert {one for one in SIZES if found[one] != own[one]} == moved, name
        if size == "head_shared":
            assert found["heads"] * found["head"] == own["heads"] * own["head"]


def test_a_power_has_its_elasticity_and_a_bend_is_seen():
    x, noise = np.array([64.0, 128, 256, 512]), np.random.default_rng(0).normal(1, 0.01, (4, 24))
    found = fit_elasticity(x, (x**1.5)[:, None] * noise, 0)
    assert found["low"] <= found["elasticity"] <= found["high"]
    assert found["elasticity"] == pytest.approx(1.5, abs=0.01)
    assert found["AIC, line - parabola"] > 10
    straight = fit_elasticity(x, (5 + 2 * x)[:, None] * noise, 0)
    assert straight["AIC, line - parabola"] < 4
    assert straight["ms/unit"] == pytest.approx(2, rel=0.01)


def test_sweeps_are_known_by_their_points():
    arms = ("attention=mha", "attention.window=8")
    points = {f"{arm} {n}": SizePoint(arm, "layers", n) for arm in arms for n in (1, 2)}
    times = {name: [1.0 * point.value, 1.0 * point.value] for name, point in points.items()} | {"A/A": [1.0, 1.0]}
    found = {(sweep, metric): value for sweep, metric, value in measure_elasticities(times, points, 0)}
    assert {sweep for sweep, _ in found} == {"attention=mha layers", "attention.window=8 layers"}
    assert found["attention=mha layers", "elasticity"] == pytest.approx(1)


def test_a_study_of_sizes_draws_time_over_each(tmp_path: Path):
    sweeps = "study.sweeps={length:[4,8],layers:[2,3]}"
    done = program("ablate.py", *tiny(tmp_path), "study=latency", sweeps, "seeds=1", "study.rounds=1", "study.vocab=64")
    assert done.status == 0, done.err
    report = (next((tmp_path / "ablations").iterdir()) / "report.html").read_text()
    for told in ("ms/pass over length", "ms/pass over layers", "elasticity", "scores share"):
        assert told in report


@pytest.mark.parametrize(
    ("sweeps", "line"),
    [
        ({"depth": [1]}, "sweeps=depth is no size"),
        ({"length": [0]}, "sweeps={length:[0]} is no list of positive"),
        ({"layers": [2]}, "study.sweeps: layers has the values [2]"),
        ({"head_shared": [8, 24]}, "study.sweeps: head_shared=24 does not divide heads x head = 64"),
        ({"head": [8, 5]}, "a: head=5 does not fit"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sweeps: dict[str, list[int]], line: str):
    with pytest.raises((Refused, ValueError)) as refused:
        Latency(sweeps=sweeps, vocab=64).check({"a": composed("model=nano")})
    assert str(refused.value).startswith(line)
