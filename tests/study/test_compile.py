"""Laws of the study of torch.compile: tracing alone serves, which needs no compiler."""

from pathlib import Path
from typing import Any

import pytest
from conftest import composed

from gptlab.errors import Refused
from gptlab.study import compile as compiling
from gptlab.study.compile import Compile
from gptlab.training.build import build_decoder

NANO = ("model=nano", "model.width=16", "model.layers=1", "model.context=16", "trainer=cpu", "trainer.threads=1")


def test_a_compiled_decoder_is_told_from_an_eager_one():
    study = Compile(backend="eager", lengths=[8], vocab=32, rounds=1)
    arms = {"a": composed(*NANO)}
    study.check(arms)
    rows = study(arms, 0, build_decoder, Path())
    found: dict[Any, Any] = {(row.metric, row.arm): row.value for row in rows}
    for kind in ("pass", "step"):
        assert {arm for metric, arm in found if metric == f"ms/{kind}"} == {"eager", "compiled", "A/A"}
        first, last = (found[f"{kind}: ms a call", f"compiled call={call}"] for call in (1, 20))
        assert first > last > 0
        assert found[f"{kind}: graphs", "compiled"] == 1
        assert found[f"{kind}: recompiles", "compiled"] == 1  # the first other length makes lengths free
        assert found[f"{kind}: off", "compiled"] == pytest.approx(0, abs=1e-6)


def test_what_is_compiled_wrongly_is_not_timed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiling, "TOLERANCE", {True: -1.0})
    with pytest.raises(ValueError, match="eager: compiled differs by"):
        Compile(backend="eager", vocab=32, rounds=1)({"a": composed(*NANO)}, 0, build_decoder, Path())


@pytest.mark.parametrize(
    ("study", "line"),
    [
        (Compile(backend="magic"), "study.backend=magic is not known; choose from "),
        (Compile(backend="eager", lengths=[16]), "a: study.lengths=[16] is not in 1 .. model.context - 1 = 15"),
    ],
)
def test_what_cannot_be_compiled_is_refused(study: Compile, line: str):
    with pytest.raises(Refused) as refused:
        study.check({"a": composed(*NANO)})
    assert str(refused.value).startswith(line)
