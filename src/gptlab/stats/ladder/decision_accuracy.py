"""Decision accuracy: in how many decisions does a small size have the sign that a larger one has?

A decision is an arm against the baseline, by the sign of the difference of their mean losses. The share of decisions
whose signs agree is the decision accuracy of DataDecide (arXiv:2504.11393), which is over all pairs of arms; here both
stand, since an ablation decides against a baseline. Four numbers keep three questions apart:

observed  signs that agree among the decisions that were made; its interval (Wilson's) is of further such decisions
true      what it would be for these decisions with endless seeds, by `draw_true_differences`
one seed  the same with one seed at each size, and between two seeds of one size: what noise alone would take away
pairs     observed and true over all pairs of arms, the baseline among them
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from gptlab.stats.ladder.decisions import Decision, Difference, LadderLosses, OneSeed, Share, SizePair
from gptlab.stats.ladder.findings import Estimate
from gptlab.stats.ladder.true_signs import draw_true_differences
from gptlab.stats.moderation import choose_variances
from gptlab.stats.paired_tests import Table, VarianceEstimate, paired_differences, t_interval

LEVEL = 0.95
DRAWS = 2000
"""Of the true differences: a share is then within 0.02 of that of endless draws."""


def compare_all_sizes(ladders: Sequence[LadderLosses]) -> list[SizePair]:
    """Return the decisions of each pair of sizes; studies of another metric, or with tuned rates, stand apart."""
    kinds: dict[tuple[bool, str], list[LadderLosses]] = {}
    for ladder in ladders:
        kinds.setdefault((ladder.tuned, ladder.metric), []).append(ladder)
    compared = []
    for kind in sorted(kinds):
        # in the order of the rungs, each once
        steps: dict[tuple[str, str], None] = {}
        for ladder in kinds[kind]:
            steps |= dict.fromkeys(combinations(ladder.sizes, 2))
        pairs = [compare_sizes(kinds[kind], small, large) for small, large in steps]
        compared += [pair for pair in pairs if pair.decisions]
    return compared


def compare_sizes(ladders: Sequence[LadderLosses], small: str, large: str) -> SizePair:
    """Return the decisions of those ladders that have both sizes; all are of one metric, and tuned or all not."""
    # one stream for all: the same ladders give the same bits
    generator = np.random.default_rng(0)
    used = [ladder for ladder in ladders if {small, large} <= {*ladder.sizes}]
    parts = [_compare_ladder(ladder, small, large, generator) for ladder in used]
    decisions, pairs, undecided = [], [], []
    for part in parts:
        decisions += part.decisions
        pairs += part.pairs
        undecided += part.undecided
    studies = [ladder.study for ladder in used]
    true = _summarize_draws([part.true for part in parts])
    pairs_true = _summarize_draws([part.pairs_true for part in parts])
    return SizePair(
        small=small,
        large=large,
        metric=used[0].metric,
        tuned=used[0].tuned,
        studies=studies,
        compute=used[0].find_rung(large).flops / used[0].find_rung(small).flops,
        decisions=decisions,
        shares=_count_shares(decisions),
        true=true,
        one_seed=_compare_single_seeds(decisions) if decisions else None,
        pairs=(sum(pairs), len(pairs)),
        pairs_true=pairs_true,
        undecided=undecided,
    )


def wilson_interval(agree: int, of: int) -> Share:
    """Return a share with Wilson's score interval (1927, J. Am. Stat. Assoc. 22:209)."""
    if not of:
        return Share(0, 0, 0.0, 1.0)
    z = float(stats.norm.ppf(0.5 + LEVEL / 2))
    share, scale = agree / of, 1 + z * z / of
    middle = (share + z * z / (2 * of)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    # all or none: the end is exactly 1 or 0, and rounding must not miss it
    return Share(agree, of, 0.0 if agree == 0 else middle - half, 1.0 if agree == of else middle + half)


@dataclass(frozen=True)
class _Measured:
    """An arm less the baseline at one size, with the variance of which its interval is."""

    difference: Difference
    variance: VarianceEstimate


@dataclass(frozen=True)
class _LadderPart:
    """What one ladder adds: true, pairs_true are agreements of the true signs, (draws, decisions or pairs)."""

    decisions: list[Decision]
    true: np.ndarray
    pairs: list[bool]
    pairs_true: np.ndarray
    undecided: list[str]


def _compare_ladder(ladder: LadderLosses, small: str, large: str, generator: np.random.Generator) -> _LadderPart:
    """Return the decisions of one ladder at two of its sizes, and their true signs as drawn."""
    ends = [ladder.find_rung(size) for size in (small, large)]
    measured = [_measure_differences(rung.losses, ladder.baseline) for rung in ends]
    arms = [arm for arm in measured[0] if arm in measured[1]]
    draws = _draw_differences(measured, arms, generator) if arms else np.zeros((DRAWS, 2, 0))
    agreement = np.sign(draws[:, 0]) == np.sign(draws[:, 1])
    decisions = []
    for arm, chance in zip(arms, agreement.mean(0).tolist(), strict=True):
        at_small, at_large = (of_size[arm].difference for of_size in measured)
        decisions.append(
            Decision(
                study=ladder.study,
                arm=arm,
                slot=ladder.slots.get(arm, ""),
                small=at_small,
                large=at_large,
                chance=chance,
            )
        )
    pairs, pairs_true = _compare_pairs(measured, arms, draws)
    named = {*ladder.slots}.union(*(rung.losses for rung in ends))
    return _LadderPart(
        decisions=decisions,
        true=agreement,
        pairs=pairs,
        pairs_true=pairs_true,
        undecided=sorted(named - {*arms, ladder.baseline}),
    )


def _measure_differences(losses: Table, baseline: str) -> dict[str, _Measured]:
    """Return the differences from the baseline, by arm, of the arms that share two seeds with it."""
    pairs = [(arm, baseline) for arm in sorted(losses) if arm != baseline] if baseline in losses else []
    variances = choose_variances(losses, pairs, "moderated" if len(pairs) > 1 else "own", frozenset())
    measured = {}
    for arm, against in pairs:
        by_seed = tuple(paired_differences(losses, arm, against).values())
        if (variance := variances.get((arm, against))) is None:
            continue
        mean = math.fsum(by_seed) / len(by_seed)
        low, high = t_interval(mean, variance, len(by_seed), LEVEL)
        measured[arm] = _Measured(Difference(mean, low, high, by_seed), variance)
    return measured


def _draw_differences(
    measured: list[dict[str, _Measured]], arms: list[str], generator: np.random.Generator
) -> np.ndarray:
    """Return draws of the true differences from the baseline at both sizes, (draws, 2, arms)."""
    observed, errors = np.zeros((2, len(arms))), np.zeros((2, len(arms)))
    for size, of_size in enumerate(measured):
        for number, arm in enumerate(arms):
            difference, variance = of_size[arm].difference, of_size[arm].variance
            observed[size, number] = difference.mean
            # a normal whose interval is as wide as Student's
            width = stats.t.isf(0.5 - LEVEL / 2, variance.df) / stats.norm.isf(0.5 - LEVEL / 2)
            errors[size, number] = width**2 * variance.variance / len(difference.by_seed)
    # the baseline's part is half of the smallest variance, which is that of arms with equal noise
    shared = np.zeros(2)
    for size, row in enumerate(errors):
        shared[size] = min((error for error in row if error > 0), default=0.0) / 2
    own = np.maximum(errors - shared[:, None], 0)
    return draw_true_differences(observed, variances=own, shared=shared, draws=DRAWS, generator=generator)


def _compare_pairs(
    measured: list[dict[str, _Measured]], arms: list[str], draws: np.ndarray
) -> tuple[list[bool], np.ndarray]:
    """Return for all pairs of arms whether the observed signs agree, and the same for each draw, (draws, pairs)."""
    # the baseline is number 0, and its own difference is 0
    first, second = np.triu_indices(1 + len(arms), 1)
    means = np.zeros((2, 1 + len(arms)))
    for size, of_size in enumerate(measured):
        means[size, 1:] = [of_size[arm].difference.mean for arm in arms]
    observed = np.sign(means[:, first] - means[:, second])  # (2, pairs)
    draws = np.concatenate([np.zeros((DRAWS, 2, 1)), draws], 2)
    signs = np.sign(draws[..., first] - draws[..., second])  # (draws, 2, pairs)
    return (observed[0] == observed[1]).tolist(), signs[:, 0] == signs[:, 1]


def _count_shares(decisions: list[Decision]) -> dict[str, Share]:
    """Return how many signs agree, of all decisions and of those that some size resolves."""
    at_small = [decision for decision in decisions if decision.small.is_resolved]
    at_large = [decision for decision in decisions if decision.large.is_resolved]
    at_both = [decision for decision in at_small if decision.large.is_resolved]
    return {
        "all": _count_agreeing(decisions),
        "resolved at the small size": _count_agreeing(at_small),
        "resolved at the large size": _count_agreeing(at_large),
        "resolved at both": _count_agreeing(at_both),
    }


def _count_agreeing(decisions: list[Decision]) -> Share:
    return wilson_interval(sum(decision.agrees for decision in decisions), len(decisions))


def _summarize_draws(agreements: list[np.ndarray]) -> Estimate:
    """Return the mean share of agreements over the draws and its 95 % interval."""
    if not any(agreement.size for agreement in agreements):
        return Estimate(0.5, 0.0, 1.0)
    shares = np.concatenate(agreements, 1).mean(1)
    low, high = np.quantile(shares, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Estimate(float(shares.mean()), float(low), float(high))


def _compare_single_seeds(decisions: list[Decision]) -> OneSeed:
    """Return how often one seed's sign is another one's; a mean over decisions, each over all pairs of seeds."""
    across, within_small, within_large = [], [], []
    for decision in decisions:
        small, large = np.sign(decision.small.by_seed), np.sign(decision.large.by_seed)
        across.append(float((small[:, None] == large).mean()))
        within_small.append(_share_equal_pairs(small))
        within_large.append(_share_equal_pairs(large))
    return OneSeed(float(np.mean(across)), float(np.mean(within_small)), float(np.mean(within_large)))


def _share_equal_pairs(signs: np.ndarray) -> float:
    """Return the share of pairs of seeds that have the same sign."""
    return float(np.mean([first == second for first, second in combinations(signs, 2)]))
