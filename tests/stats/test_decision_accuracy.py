"""Decision accuracy counts what was planted: signs, what is resolved, and what the noise of seeds takes away."""

import numpy as np
import pytest
from planted_decisions import make_ladder, plant_ladder, plant_truths

from gptlab.stats.ladder.decision_accuracy import compare_all_sizes, compare_sizes, wilson_interval
from gptlab.stats.ladder.decisions import SizePair

SMALL = {
    "base": [2.0, 2.01, 2.02],
    "mlp=kept": [1.9, 1.911, 1.92],
    "mlp=turned": [1.9, 1.91, 1.921],
    "norm=blurred": [1.9995, 2.012, 2.0205],
    "norm=faded": [2.1, 2.11, 2.121],
}
LARGE = {
    "base": [1.5, 1.51, 1.52],
    "mlp=kept": [1.45, 1.459, 1.47],
    "mlp=turned": [1.55, 1.56, 1.571],
    "norm=blurred": [1.55, 1.561, 1.57],
    "norm=faded": [1.5004, 1.5105, 1.5188],
}
"""By arm the losses of three seeds: noise of a run is .0005."""


@pytest.fixture(scope="module")
def planted() -> SizePair:
    return compare_sizes([make_ladder(SMALL, LARGE)], "nano", "micro")


def test_an_outcome_says_which_sizes_resolve_a_decision_and_whether_their_signs_agree(planted: SizePair):
    outcomes = {decision.arm: decision.outcome for decision in planted.decisions}
    assert outcomes == {
        "mlp=kept": "same",
        "mlp=turned": "reversed",
        "norm=blurred": "large alone",
        "norm=faded": "small alone",
    }
    assert [decision.slot for decision in planted.decisions] == ["mlp", "mlp", "norm", "norm"]


def test_shares_count_equal_signs_among_those_that_each_size_resolves(planted: SizePair):
    counts = {name: (share.agree, share.of) for name, share in planted.shares.items()}
    # of the two that one size leaves open, one has the other size's sign
    assert counts == {
        "all": (2, 4),
        "resolved at the small size": (1, 3),
        "resolved at the large size": (2, 3),
        "resolved at both": (1, 2),
    }


def test_all_pairs_of_arms_are_counted_as_datadecide_counts_recipes(planted: SizePair):
    means = [{arm: np.mean(row) for arm, row in rows.items()} for rows in (SMALL, LARGE)]
    names = sorted(SMALL)
    agree = 0
    for place, arm in enumerate(names):
        for other in names[:place]:
            first, second = ((of_size[arm] > of_size[other]) for of_size in means)
            agree += first == second
    assert planted.pairs == (agree, 10)


def test_chances_follow_the_noise(planted: SizePair):
    chances = {decision.arm: decision.chance for decision in planted.decisions}
    assert chances["mlp=kept"] > 0.99
    assert chances["mlp=turned"] < 0.01
    assert 0.05 < chances["norm=faded"] < 0.95


def test_one_seed_agrees_with_itself_as_often_as_its_noise_lets_it(planted: SizePair):
    # by decision: 9 pairs of seeds across sizes, 3 within one
    assert planted.one_seed is not None
    assert planted.one_seed.across == pytest.approx((9 + 0 + 6 + 6) / 36)
    assert planted.one_seed.small == pytest.approx((3 + 3 + 1 + 3) / 12)


@pytest.mark.parametrize(
    ("agree", "of", "low", "high"), [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)]
)
def test_the_interval_of_a_share_is_wilsons(agree: int, of: int, low: float, high: float):
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
    share = wilson_interval(agree, of)
    assert (share.low, share.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    none = wilson_interval(0, 0)
    assert (none.low, none.high) == (0, 1)


def test_studies_are_pooled_and_tuned_rates_stand_apart():
    ladders = [make_ladder(SMALL, LARGE, study=name, tuned=name == "third") for name in ("first", "second", "third")]
    pooled, tuned = compare_all_sizes(ladders)
    assert (pooled.studies, tuned.studies) == (["first", "second"], ["third"])
    assert (pooled.shares["all"].of, tuned.shares["all"].of) == (8, 4)
    # arms of two studies are never compared with each other
    assert (pooled.pairs[1], tuned.pairs[1]) == (20, 10)


def test_an_arm_that_one_size_lacks_is_named_and_not_counted():
    large = {arm: row for arm, row in LARGE.items() if arm != "norm=faded"} | {"mlp=turned": [1.55]}
    pair = compare_sizes([make_ladder(SMALL, large)], "nano", "micro")
    assert pair.undecided == ["mlp=turned", "norm=faded"]
    assert [decision.arm for decision in pair.decisions] == ["mlp=kept", "norm=blurred"]


def test_the_same_losses_give_the_same_bits():
    first, second = (compare_sizes([make_ladder(SMALL, LARGE)], "nano", "micro") for _ in range(2))
    assert first == second


CASES = {"the same signs": (0.98, 3.0), "as large as their noise": (0.9, 1.0), "unrelated": (0.0, 3.0)}
"""Correlation of the true differences at both sizes, and their SD in SDs of a run."""


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_intervals_hold_what_they_promise_on_planted_ladders(case: str):
    """Of 100 ladders of 12 arms; at 3 seeds a difference has an error of 0.8, the baseline's in all of them."""
    generator = np.random.default_rng(1)
    observed, covered, errors = [], [], []
    # what further decisions of the kind agree in: signs of the differences that seeds blur
    truths = np.stack([plant_truths(*CASES[case], 12, generator) for _ in range(4000)])
    baseline = generator.standard_normal((4000, 2, 1))
    noise = (generator.standard_normal(truths.shape) - baseline) / np.sqrt(3)
    signs = np.sign(truths + noise)
    expected = (signs[:, 0] == signs[:, 1]).mean()
    for _ in range(100):
        truth = plant_truths(*CASES[case], 12, generator)
        pair = compare_sizes([plant_ladder(truth, generator)], "nano", "micro")
        share, right = pair.shares["all"], float((np.sign(truth[0]) == np.sign(truth[1])).mean())
        observed.append(share.low <= expected <= share.high)
        covered.append(pair.true.low - 1e-9 <= right <= pair.true.high + 1e-9)
        errors.append(pair.true.value - right)
    assert np.mean(observed) >= 0.86  # Wilson's takes decisions for independent, and all have one baseline
    assert np.mean(covered) >= 0.95
    # drawn to one half where noise leaves nothing else to say
    assert abs(np.mean(errors)) < (0.16 if case == "as large as their noise" else 0.05)


def test_no_noise_leaves_the_signs_as_they_are_and_much_leaves_nothing():
    truth = np.array([[1.0, -2.0, 3.0, -4.0, 5.0, 6.0], [1.0, -1.0, 2.0, -3.0, -4.0, -5.0]])
    shares = [
        compare_sizes([plant_ladder(scale * truth, np.random.default_rng(2))], "nano", "micro").true
        for scale in (300, 0.02)
    ]
    assert shares[0].value == pytest.approx(4 / 6, abs=0.01)
    assert shares[1].low < 0.35
    assert shares[1].high > 0.65
