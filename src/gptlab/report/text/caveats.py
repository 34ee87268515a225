"""Under which rules arms were compared, what noise there is, and what the study cannot say."""

import math

from gptlab.console.units import format_duration
from gptlab.report.text.numbers import fixed, places, signed, span
from gptlab.report.text.view import Sentence, Strong, View, command, plural, said, views
from gptlab.stats.results import Findings, Front, Noise, Scaling

MATCHED = {
    "tokens": "All arms learn from the same tokens in the same order.",
    "params": "All arms have the same number of parameters, within 0.5 %.",
    "flops": "All arms spend the same FLOPs.",
    "time": "All arms train for the same measured seconds.",
}
TUNED = {
    "shared": "All arms are compared at a shared learning rate; one that is tuned for itself may do better.",
    "grid": "Each arm is judged at its best learning rate of the same grid, by mean over seeds.",
}
SCALE = (
    "Small scale: in the one large study (of data sets, DataDecide) the order at a small size held at 1B parameters in "
    "about 80 % of pairs; of 20 published changes of architecture only 2 held at 1.2B (arXiv:2605.20798)."
)


def rules(findings: Findings) -> list[str]:
    """What was the same for all arms, what was changed to make it so, and how far apart they remain."""
    found = [MATCHED.get(findings.asked.get("match", ""), ""), TUNED.get(findings.asked.get("tune", ""), "")]
    settled = [f"{arm}: {why}" for arm, knobs in findings.asked.get("settled", {}).items() for *_, why in knobs]
    return [*filter(None, found), *settled, *findings.mismatch]


def floor(view: View) -> list[str]:
    """How much differs when nothing does, and what these seeds could have seen."""
    noise, unit = view.comparison.noise, view.comparison.metric.unit
    if noise is None:
        spread = next((row.sd for row in view.comparison.arms if row.arm == view.comparison.baseline), None)
        return [f"Seeds alone move the loss by {_two(spread)} {unit} (SD)."] if spread else []
    told = [
        f"Seeds alone move the loss by {_two(noise.seed_sd)} {unit} (SD), a paired difference by "
        f"{_two(noise.pair_sd)}; {_pairing(noise)}.",
        f"This study would have seen a difference of {_two(noise.smallest)} with 80 % power.",
    ]
    if noise.twin is not None:
        exact = "exactly 0" if noise.twin == 0 else f"up to {_two(noise.twin)}: a smaller difference means nothing"
        told.append(f"The baseline run twice differs from itself by {exact}.")
    return told


def _pairing(noise: Noise) -> str:
    if noise.gain < 1.1:
        return f"pairing by seed gained nothing (correlation {signed(noise.rho, 2)})"
    return (
        f"pairing by seed cut the variance of a difference {noise.gain:.2g}-fold (correlation {signed(noise.rho, 2)})"
    )


def _two(number: float) -> str:
    """Two digits, as an SD of few seeds has no more."""
    return f"{number:.2g}"


def judged(view: View) -> str:
    """What counts as equal, and by which variance."""
    one = view.comparison
    return f"Equivalent means within {fixed(one.delta, places(one.delta))} {one.metric.unit}: {one.delta_from}."


def caveats(findings: Findings) -> list[Sentence]:
    """What a reader must know before going further; that of scale always."""
    found = []
    for view in views(findings):
        if lone(view):
            arms = len(view.contrasts)
            chance = round(100 * arms / (arms + 1))
            found.append(
                said(
                    "One seed: ",
                    Strong("no verdict possible"),
                    f". The order of the arms may be noise: of {plural(arms, 'arm')} ",
                    f"equal to the baseline some looks better in {chance} % of studies.",
                    command=command(findings.asked, 2),
                )
            )
            break
    return [*found, said(SCALE)]


def lone(view: View) -> bool:
    """True where no arm has two seeds in common with the baseline."""
    return bool(view.contrasts) and all(len(one.seeds) < 2 for one in view.contrasts.values())


# -- budgets and sizes


def ladder(view: View) -> list[str]:
    """What compute is worth to the baseline."""
    exchange = view.stratum.exchange
    if exchange is None:
        return []
    worth, error = -exchange.slope * math.log(2), exchange.slope_error * math.log(2)
    decimals = places(1.96 * error)
    steps = ", ".join(f"{loss:.3f} at {budget:g}x" for budget, loss in sorted(exchange.budgets.items()))
    return [
        f"The baseline with more and with less compute: {steps}. A doubling is worth {fixed(worth, decimals)} "
        f"{view.comparison.metric.unit} (standard error {error:.1g})."
    ]


def fronts(view: View) -> list[Sentence]:
    """Loss against each cost: who is beaten on both, and by whom. Costs with the same outcome are told together. One
    seed has no interval to be beaten beyond."""
    outcomes: dict[str, tuple[Front, list[str]]] = {}
    for one in [] if lone(view) else view.stratum.fronts:
        outcomes.setdefault(repr((one.front, one.dominated)), (one, []))[1].append(one.cost.name)
    found = []
    for one, costs in outcomes.values():
        beaten: dict[str, list[str]] = {}
        for arm, by in one.dominated.items():
            beaten.setdefault(by, []).append(arm)
        parts = [f"Pareto front of {view.comparison.metric.name} and {', '.join(costs)}: ", *_arms(view, one.front)]
        for by, arms in beaten.items():
            parts += ["; ", view.name(by), " dominates ", *_arms(view, arms)]
        found.append(said(*parts, "."))
    return found


def _arms(view: View, arms: list[str]) -> list[str]:
    return [part for number, arm in enumerate(arms) for part in (", " if number else "", view.name(arm))]


def scaled(scaling: Scaling) -> Sentence:
    """How fast an arm gains with size."""
    what = {"params": "parameters", "flops": "FLOPs"}[scaling.against]
    gain, ends = -scaling.slope * math.log(2), sorted((-scaling.low * math.log(2), -scaling.high * math.log(2)))
    decimals = places((ends[1] - ends[0]) / 2)
    return said(
        Strong(scaling.arm),
        f" gains {fixed(gain, decimals)} nats/token for each doubling of {what} (95 % interval "
        f"{span(ends[0], ends[1], decimals)}; {len(scaling.points)} sizes).",
    )


def spent(findings: Findings) -> str:
    """The study in numbers."""
    done = sum(run.status == "finished" for run in findings.runs)
    time = f", {format_duration(findings.seconds)} in all" if findings.seconds else ""
    return f"{done} of {plural(len(findings.runs), 'run')} finished{time}"
