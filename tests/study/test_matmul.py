"""Laws of the parallel matrix product, and of its study."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import composed

from gptlab.errors import Refused
from gptlab.study.matmul import ONE_THREAD, Matmul, find_crossovers
from gptlab.study.tools import parallel_matmul as matmul
from gptlab.study.tools.parallel_matmul import BACKENDS, SPLITS, Product, cut_product
from gptlab.training.build import build_decoder

KNOBS: dict[str, Any] = {"sizes": [16], "splits": [*SPLITS], "backends": ["threads"]}
SIDES = (19, 23, 17)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("workers", [1, 2, 3, 6])
def test_pieces_cover_the_product_once(split: str, workers: int):
    times = np.zeros(SIDES, int)
    cut = cut_product(split, workers, 3, SIDES)
    for piece in cut:
        times[slice(*piece.rows), slice(*piece.inner), slice(*piece.columns)] += 1
    assert (times == 1).all()
    assert len(cut) == (8 if split == "recursive" else workers)


@pytest.mark.thorough
def test_every_way_says_what_blas_says():
    draws = np.random.default_rng(0)
    a, b = draws.standard_normal(SIDES[:2]), draws.standard_normal(SIDES[1:])
    with matmul.make_thread_pool(2) as threads, matmul.make_process_pool(1) as spawned:
        for backend in BACKENDS:
            for split in SPLITS:
                pool = threads if backend == "threads" else spawned
                with Product(a, b, pool, backend, cut_product(split, 2, 3, SIDES)) as way:
                    for _ in range(2):
                        np.testing.assert_allclose(way(), a @ b, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(matmul.multiply_in_loop(a, b), a @ b, rtol=1e-12, atol=1e-12)


def test_a_study_of_products_times_all_ways_in_turn():
    study, arms = Matmul(**KNOBS, rounds=1), {"a": composed("model=nano")}
    study.check(arms)
    rows = study(arms, 0, build_decoder, Path())
    timed = {row.arm for row in rows if row.metric == "ms N=16"}
    assert timed == {ONE_THREAD, "BLAS, all threads", "loop", "A/A", *(f"threads {split}" for split in SPLITS)}


def test_a_wrong_product_is_not_timed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(matmul, "multiply_in_loop", lambda a, b: a @ b + 1e-9)
    with pytest.raises(ValueError, match="loop: N=16 differs from BLAS"):
        Matmul(**KNOBS, rounds=1)({"a": composed("model=nano")}, 0, build_decoder, Path())


def test_faster_is_faster_from_there_on():
    times = {64: {ONE_THREAD: [2.0], "x": [1.0], "y": [3.0]}, 128: {ONE_THREAD: [2.0], "x": [3.0], "y": [1.0]}}
    times[256] = {ONE_THREAD: [9.0], "x": [1.0], "y": [1.0]}
    assert find_crossovers(times) == {"x": 256, "y": 128}


def test_what_cannot_be_multiplied_is_refused():
    with pytest.raises(ValueError, match=r"sizes=.* must be some of at least 8, the number of pieces"):
        Matmul(**{**KNOBS, "sizes": [4]})
    with pytest.raises(Refused, match=r"study.backends=fork is not known; choose from threads, shared, pickled"):
        Matmul(**{**KNOBS, "backends": ["fork"]}).check({"a": composed("model=nano")})
    with pytest.raises(Refused, match="MiB of shared memory, "):
        Matmul(**{**KNOBS, "sizes": [10**6], "backends": ["shared"]}).check({"a": composed("model=nano")})
    with pytest.raises(Refused, match="study=matmul has no model"):
        Matmul(**KNOBS).check({"a": composed("model=nano"), "b": composed("model=nano")})
