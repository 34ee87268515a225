"""Laws of the study of kernels."""

from pathlib import Path

import pytest
from conftest import composed

from gptlab.study.kernels import Kernels
from gptlab.training.build import build_decoder

NANO = ("model=nano", "model.width=24", "model.heads=2", "model.context=16", "trainer=cpu", "trainer.threads=1")


def test_every_kernel_says_what_the_formula_says_or_is_counted():
    study, arms = Kernels(kv_heads=[1], lengths=[8, 16], heads=[1], rounds=1), {"a": composed(*NANO)}
    study.check(arms)
    rows = study(arms, 0, build_decoder, Path())
    cases = {row.metric for row in rows if isinstance(row.value, list)}
    ends = ["length=8", "length=16", "heads=1", "kv_heads=1", "window=4"]
    assert cases == {f"ms {kind} {end}" for kind in ("forward", "forward and backward") for end in ends}
    told = {(row.arm, row.metric): row.value for row in rows if not isinstance(row.value, list)}
    for arm in ("naive", "math", "flash", "efficient"):
        timed = {row.metric for row in rows if row.arm == arm and isinstance(row.value, list)}
        assert len(timed) + told[arm, "cases refused"] == len(cases)
    assert told["naive", "cases refused"] == told["math", "cases refused"] == 0
    assert told["math", "off"] < 1e-5


def test_a_wrong_kernel_is_not_timed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", lambda q, k, v, *_, **__: v)
    with pytest.raises(ValueError, match="math differs from the plain formula by"):
        Kernels(kv_heads=[], kernels=["math"], rounds=1)({"a": composed(*NANO)}, 0, build_decoder, Path())


def test_a_kernel_that_is_none_is_refused():
    with pytest.raises(ValueError, match="kernels=fast is no kernel; choose from naive, math"):
        Kernels(kv_heads=[1], kernels=["fast"])
