"""Comparison of the sizes of a study as the rungs of a ladder: what each arm's gain does when the model grows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from gptlab.stats.ladder.findings import ArmTrend, Curve, Estimate, LadderFindings, RungGain
from gptlab.stats.ladder.power_laws import PowerLaws
from gptlab.stats.ladder.trend import MISFIT, LadderFit, decide_word, fit_ladder
from gptlab.stats.metric_comparison import make_look_plan, tabulate
from gptlab.stats.results import Contrast, Stratum
from gptlab.stats.spending import ALPHA
from gptlab.stats.study_plan import StudyPlan

MIN_CURVE = 3
"""Rungs that a curve needs; two give a line."""
RISE = 2.0
"""Standard errors by which a larger size may lose to a smaller one and still be said to fall with compute."""
MIN_WORSE = 2
"""Rungs at which an arm that is worse is left out of the next ones."""


def find_hopeless_arms(strata: list[Stratum]) -> list[str]:
    """Return the arms that are worse at two of these rungs, beyond the interval."""
    worse: dict[str, int] = {}
    for stratum in strata:
        for contrast in stratum.comparisons[0].contrasts:
            worse[contrast.arm] = worse.get(contrast.arm, 0) + (contrast.verdict == "worse")
    return [arm for arm, times in worse.items() if times >= MIN_WORSE]


@dataclass(frozen=True, kw_only=True)
class _Ladder:
    """The rungs that were compared.

    computes   training FLOPs of the baseline at each
    contrasts  by arm, at each
    level      of the intervals of difference, two-sided; level90: of those of equivalence
    """

    rungs: list[Stratum]
    computes: list[float]
    baseline: str
    contrasts: list[dict[str, Contrast]]
    level: float
    level90: float

    @property
    def x(self) -> np.ndarray:
        """ln(C / C_ref) of each rung, with the last one as C_ref, where x is 0."""
        return np.log(np.array(self.computes) / self.computes[-1])


def compare_ladder(plan: StudyPlan, strata: list[Stratum]) -> LadderFindings | None:
    """Compare the arms over the rungs; None where the study has none, or fewer than two of them were compared.

    Losses enter as the metric that decides; an arm that diverged somewhere has its rungs, and no word over them.
    """
    rungs = [stratum for size in plan.ladder for stratum in strata if stratum.size == size and stratum.comparisons]
    computes = [_count_training_flops(stratum) for stratum in rungs]
    baselines = {stratum.baseline for stratum in rungs}
    metrics = {stratum.comparisons[0].metric for stratum in rungs}
    if len(rungs) < 2 or len(baselines) > 1 or len(metrics) > 1 or not all(computes):
        return None
    (baseline,), (metric,) = baselines, metrics
    contrasts = []
    for stratum in rungs:
        contrasts.append({contrast.arm: contrast for contrast in stratum.comparisons[0].contrasts})
    arms = list(dict.fromkeys(arm for of_rung in contrasts for arm in of_rung))
    level, level90 = _choose_levels(plan, contrasts, len(arms))
    ladder = _Ladder(
        rungs=rungs, computes=computes, baseline=baseline, contrasts=contrasts, level=level, level90=level90
    )
    losses = _collect_losses(rungs, metric.key)
    judged = {arm: _list_judged_rungs(arm, contrasts) for arm in arms}
    rises = _find_rises(losses, baseline, judged, [stratum.size for stratum in rungs])
    # a baseline whose losses rise leaves no gain of any arm to fit
    fitted = {arm: rungs_of_arm for arm, rungs_of_arm in judged.items() if not {arm, baseline} & {*rises}}
    fits = _fit_arms(losses, baseline, fitted, ladder.x)
    projection = (plan.project, plan.project_flops) if plan.project and plan.project_flops else None
    trends = []
    for arm in arms:
        trends.append(_describe_trend(ladder, arm, judged=judged[arm], fit=fits.get(arm), projection=projection))
    # all curved arms share one fit, whose floor E is that of them all
    joint = next((fit for fit in fits.values() if isinstance(fit.model, PowerLaws)), None)
    return LadderFindings(
        sizes=[stratum.size for stratum in rungs],
        computes=computes,
        baseline=baseline,
        unit=metric.unit,
        arms=trends,
        curves=_list_curves(joint, computes[-1]),
        projection=projection,
        level=level,
        misfit=joint.misfit if joint else None,
        notes=[*rises.values(), *_describe_doubts(trends, joint, len(rungs))],
    )


def _count_training_flops(stratum: Stratum) -> float:
    """Return the FLOPs with which the baseline is trained at a rung; 0 where no run of it says."""
    for run in stratum.runs:
        if run.arm == stratum.baseline and run.role == "arm" and run.status == "finished":
            return run.values.get("flops_per_token", 0.0) * run.values.get("tokens", 0.0)
    return 0.0


def _collect_losses(rungs: list[Stratum], key: str) -> dict[tuple[str, int], Mapping[int, float]]:
    """Return losses by seed, of each arm and rung; where learning rates were tuned, at each arm's best."""
    losses: dict[tuple[str, int], Mapping[int, float]] = {}
    for rung, stratum in enumerate(rungs):
        best = {tuning.arm: tuning.best for tuning in stratum.tunings}
        runs = [run for run in stratum.runs if run.role == "arm" and run.lr == best.get(run.arm, run.lr)]
        losses |= {(arm, rung): by_seed for arm, by_seed in tabulate(runs, key).items()}
    return losses


def _list_judged_rungs(arm: str, contrasts: list[dict[str, Contrast]]) -> list[int]:
    """Return the rungs at which an arm has an interval; none where it diverged at one."""
    of_arm = {rung: contrasts[rung][arm] for rung in range(len(contrasts)) if arm in contrasts[rung]}
    if any(contrast.verdict in ("unstable", "no verdict") for contrast in of_arm.values()):
        return []
    return [rung for rung, contrast in of_arm.items() if contrast.df > 0]


def _choose_levels(plan: StudyPlan, contrasts: list[dict[str, Contrast]], arms: int) -> tuple[float, float]:
    """Return the levels of the intervals of difference and of equivalence, two-sided.

    Each is what the looks leave of alpha with the fewest seeds of any rung; that of difference over the number of arms
    (Bonferroni).
    """
    # a ladder is as far as its least repeated rung
    seeds = min((len(contrast.seeds) for of_rung in contrasts for contrast in of_rung.values()), default=0)
    looks = make_look_plan(plan)
    if looks is None or seeds < 2:
        return plan.alpha / max(1, arms), 2 * ALPHA
    return looks.find_level(seeds, arms, alpha=plan.alpha) / arms, 2 * looks.find_equivalence_level(seeds)


def _find_rises(
    losses: Mapping[tuple[str, int], Mapping[int, float]], baseline: str, judged: dict[str, list[int]], sizes: list[str]
) -> dict[str, str]:
    """Return, for each arm whose losses do not fall with compute, what is said of it: no power law is fitted to them.

    A fit through them puts its floor in their midst, and tells of a gain of 0.0000 that holds. Lines through two rungs
    claim no form, and stay.
    """
    every = sorted(set().union(*judged.values()))
    rises = {}
    for arm, rungs in {baseline: every, **judged}.items():
        rise = _find_rise([np.array([*losses[arm, rung].values()]) for rung in rungs])
        if rise is not None:
            small, large = (sizes[rungs[place]] for place in rise)
            rises[arm] = (
                f"the losses of {arm} do not fall from {small} to {large}, so no power law of compute is fitted, "
                "and nothing is said over the rungs; give larger sizes more tokens (rung_tokens)"
            )
    return rises


def _find_rise(rows: list[np.ndarray]) -> tuple[int, int] | None:
    """Return two rungs between which the losses by seed do not fall; None where they fall, or a line is drawn."""
    if len(rows) < MIN_CURVE:
        return None
    for place, (before, after) in enumerate(pairwise(rows)):
        # standard error of the difference of two means, each with its own variance
        error = math.sqrt(sum(row.var(ddof=1) / len(row) for row in (before, after)))
        if after.mean() > before.mean() + RISE * error:
            return place, place + 1
    return (0, len(rows) - 1) if rows[-1].mean() >= rows[0].mean() else None


def _fit_arms(
    losses: Mapping[tuple[str, int], Mapping[int, float]], baseline: str, judged: dict[str, list[int]], x: np.ndarray
) -> dict[str, LadderFit]:
    """Return the fit that speaks of each arm: one of all arms with three rungs or more, and lines through two."""
    fits: dict[str, LadderFit] = {}
    curved = [arm for arm, rungs in judged.items() if len(rungs) >= MIN_CURVE]
    if curved:
        every = sorted({rung for arm in curved for rung in judged[arm]})
        cells = {(baseline, rung): losses[baseline, rung] for rung in every}
        # each arm at its own rungs: one that was left out of the last still helps to fit the others' floor
        cells |= {(arm, rung): losses[arm, rung] for arm in curved for rung in judged[arm]}
        fit = fit_ladder(cells, x)
        fits |= dict.fromkeys(curved, fit) if fit else {}
    for arm, rungs in judged.items():
        if len(rungs) == 2:
            cells = {(name, rung): losses[name, rung] for name in (baseline, arm) for rung in rungs}
            fit = fit_ladder(cells, x)
            fits |= {arm: fit} if fit else {}
    return fits


def _describe_trend(
    ladder: _Ladder, arm: str, judged: list[int], fit: LadderFit | None, projection: tuple[str, float] | None
) -> ArmTrend:
    """Return an arm's gain at each rung and, where it was fitted, what becomes of it.

    judged  rungs at which the arm has an interval
    """
    gains = []
    for rung, of_rung in enumerate(ladder.contrasts):
        if arm in of_rung:
            gains.append(_describe_rung(ladder, rung, of_rung[arm], fit))
    left_out = _list_rungs_left_out(arm, ladder.rungs)
    trend = ArmTrend(arm, "no verdict", gains, left_out=left_out)
    if fit is None:
        return trend
    # an arm that was left out of a rung has no gain there to go on from; a line is no law to go on by
    projected = None
    if projection and not left_out and isinstance(fit.model, PowerLaws):
        beyond = math.log(projection[1] / ladder.computes[-1])
        projected = fit.estimate_gain(arm, ladder.baseline, beyond, ladder.level)
    return replace(_judge(ladder, trend, judged, fit), projected=projected)


def _describe_rung(ladder: _Ladder, rung: int, contrast: Contrast, fit: LadderFit | None) -> RungGain:
    """Return an arm's gain at a rung, with the compute that it is worth there if the arm was fitted."""
    multiplier = None
    if fit is not None and (contrast.arm, rung) in fit.cells:
        multiplier = fit.estimate_multiplier(contrast.arm, ladder.baseline, rung, ladder.level)
    return RungGain(
        size=ladder.rungs[rung].size,
        compute=ladder.computes[rung],
        seeds=len(contrast.seeds),
        # a gain is a loss that is lower: the sign turns, and the ends change places
        gain=Estimate(-contrast.difference, -contrast.high, -contrast.low),
        verdict=contrast.label,
        multiplier=multiplier,
    )


def _judge(ladder: _Ladder, trend: ArmTrend, judged: list[int], fit: LadderFit) -> ArmTrend:
    """Return a trend with its fitted numbers and its word."""
    arm, baseline, level = trend.arm, ladder.baseline, ladder.level
    ends = (ladder.x[judged[0]], ladder.x[judged[-1]])
    first, last = (fit.estimate_gain(arm, baseline, x, level) for x in ends)
    change = fit.estimate_change(arm, baseline, ends, level)
    equivalence = fit.estimate_change(arm, baseline, ends, ladder.level90)
    delta = ladder.rungs[judged[-1]].comparisons[0].delta
    # x is a natural logarithm, the reader's axis is decades of compute
    decades = (ends[1] - ends[0]) / math.log(10)
    return replace(
        trend,
        word=decide_word(first, last, change=change, equivalence=equivalence, delta=delta),
        first=first,
        last=last,
        change=change,
        low90=equivalence.low,
        high90=equivalence.high,
        per_decade=Estimate(change.value / decades, change.low / decades, change.high / decades),
    )


def _list_rungs_left_out(arm: str, rungs: list[Stratum]) -> list[str]:
    """Return the sizes that have no run of an arm that was worse at two before."""
    for number in range(MIN_WORSE, len(rungs)):
        if arm in find_hopeless_arms(rungs[:number]):
            return [stratum.size for stratum in rungs[number:] if arm not in _list_arms(stratum)]
    return []


def _list_arms(stratum: Stratum) -> set[str]:
    return {run.arm for run in stratum.runs}


def _list_curves(joint: LadderFit | None, reference: float) -> list[Curve]:
    """Return the fitted power laws of all arms; none where the fit is a line."""
    if joint is None or not isinstance(joint.model, PowerLaws):
        return []
    curves = []
    for arm, scale, exponent in zip(
        joint.arms, joint.model.scales.tolist(), joint.model.exponents.tolist(), strict=True
    ):
        curves.append(Curve(arm=arm, floor=joint.model.floor, scale=scale, exponent=exponent, reference=reference))
    return curves


def _describe_doubts(trends: list[ArmTrend], joint: LadderFit | None, rungs: int) -> list[str]:
    """Return sentences on what weakens the verdicts over the rungs."""
    notes = []
    if rungs < MIN_CURVE:
        notes.append("two rungs: the gain is a line through both, whose form nothing checks, and is not projected")
    if joint is not None and joint.misfit is not None and joint.misfit < MISFIT:
        notes.append(
            f"the losses are farther from power laws of compute than seeds explain (p = {joint.misfit:.2g}): "
            f"intervals over rungs are {math.sqrt(joint.inflate):.1f} times as wide for it"
        )
    for trend in trends:
        if trend.left_out:
            notes.append(f"{trend.arm} was worse at two rungs and left out of {', '.join(trend.left_out)}")
    return notes
