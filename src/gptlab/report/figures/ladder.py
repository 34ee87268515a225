"""Figures of a ladder: each arm's gain over compute, and the losses with their power laws."""

import math
from typing import Any

from gptlab.report.figures.parts import COLOURS, GREY, assign_colours, make_axis, make_error_bars, make_line
from gptlab.report.model import Figure
from gptlab.stats.ladder.findings import ArmTrend, Curve, Estimate, LadderFindings
from gptlab.stats.results import Stratum

POINTS = 24
"""Points of a drawn curve."""


def draw_gains(ladder: LadderFindings) -> Figure | None:
    """Draw the gain of each arm at each rung with its interval, the fitted gain, and the projected one."""
    trends = [trend for trend in ladder.arms if trend.rungs]
    if not trends:
        return None
    colours, traces, rows = assign_colours([trend.arm for trend in trends]), [], []
    for trend in trends:
        colour = colours[trend.arm]
        # what is drawn, which the table below the figure repeats
        points = {rung.size: (rung.compute, rung.gain, rung.verdict) for rung in trend.rungs}
        traces.append(_draw_points(trend.arm, [(flops, gain) for flops, gain, _ in points.values()], colour))
        traces += _draw_fit(ladder, trend, colour)
        if trend.projected is not None and ladder.projection is not None:
            size, flops = ladder.projection
            points[size] = (flops, trend.projected, "projected")
            diamond = {"size": 11, "color": colour, "symbol": "diamond-open"}
            traces.append(_draw_points(f"{trend.arm} at {size}", [(flops, trend.projected)], colour))
            # open: a projection is no measurement
            traces[-1] |= {"marker": diamond, "showlegend": False}
        for size, (flops, gain, verdict) in points.items():
            rows.append((trend.arm, size, flops, gain.value, gain.low, gain.high, verdict))
    zero = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "line": {"color": GREY, "dash": "dot"}}
    return Figure(
        title="Gain over training compute, above 0 better than the baseline",
        data=traces,
        layout={
            "xaxis": make_axis("training FLOPs of the baseline", type="log", **_label_rungs(ladder)),
            "yaxis": make_axis(f"gain, {ladder.unit}"),
            "height": 380,
            "shapes": [zero],
        },
        alt="; ".join(f"{trend.arm}: {trend.word}" for trend in trends),
        heads=("arm", "size", "FLOPs", "gain", "low", "high", "verdict"),
        rows=rows,
        note="Bars: the interval of the size's verdict. Lines: the fitted gain. A diamond is projected, not measured.",
    )


def _draw_points(name: str, points: list[tuple[float, Estimate]], colour: str) -> dict[str, Any]:
    """Return a trace of gains at their FLOPs, with the intervals as bars."""
    x, values, lows, highs = [], [], [], []
    for flops, gain in points:
        x.append(flops)
        values.append(gain.value)
        lows.append(gain.low)
        highs.append(gain.high)
    bars = make_error_bars(values, lows, highs)
    look = {"mode": "markers", "marker": {"size": 9, "color": colour}, "error_y": {**bars, "color": colour}}
    return make_line(x, values, name, colour, **look)


def _draw_fit(ladder: LadderFindings, trend: ArmTrend, colour: str) -> list[dict[str, Any]]:
    """Return a trace of the fitted gain: of two power laws, or a line between two rungs."""
    if trend.first is None or trend.last is None:
        return []
    curves = {curve.arm: curve for curve in ladder.curves}
    # two rungs have a line, whose ends are all that was fitted
    if {trend.arm, ladder.baseline} <= curves.keys() and len(trend.rungs) > 2:
        # in FLOPs; without a projection the curve ends where the arm's own runs do
        furthest = ladder.projection[1] if ladder.projection and trend.projected else trend.rungs[-1].compute
        x = _spread(trend.rungs[0].compute, furthest)
        y = [_predict(curves[ladder.baseline], flops) - _predict(curves[trend.arm], flops) for flops in x]
    else:
        x = [trend.rungs[0].compute, trend.rungs[-1].compute]
        y = [trend.first.value, trend.last.value]
    return [make_line(x, y, trend.arm, colour, showlegend=False, hoverinfo="skip")]


def draw_power_laws(ladder: LadderFindings) -> Figure | None:
    """Draw the fitted loss of each arm over compute, and their common floor."""
    if not ladder.curves:
        return None
    colours = {ladder.baseline: GREY}
    others = [curve.arm for curve in ladder.curves if curve.arm != ladder.baseline]
    # grey is the baseline's; the palette begins again where there are more arms than colours
    colours |= dict(zip(others, COLOURS * (len(others) // len(COLOURS) + 1), strict=False))
    x = _spread(ladder.computes[0], ladder.projection[1] if ladder.projection else ladder.computes[-1])
    traces, rows = [], []
    for curve in ladder.curves:
        y = [_predict(curve, flops) for flops in x]
        traces.append(make_line(x, y, curve.arm, colours[curve.arm]))
        rows.append((curve.arm, curve.floor, curve.scale, curve.exponent, curve.reference))
    return Figure(
        title="Loss as a power law of compute, one floor for all arms",
        data=traces,
        layout={
            "xaxis": make_axis("training FLOPs", type="log", **_label_rungs(ladder)),
            "yaxis": make_axis(ladder.unit),
            "height": 340,
        },
        alt="; ".join(
            f"{curve.arm}: exponent {curve.exponent:.3g}, floor {curve.floor:.3g}" for curve in ladder.curves
        ),
        heads=("arm", "floor", "scale at the reference", "exponent", "reference, FLOPs"),
        rows=rows,
    )


def draw_transfer(strata: list[Stratum]) -> Figure | None:
    """Draw loss over learning rate at the two smallest rungs, less the least of each, with the carried rate marked.

    None where rates were not tuned at both.
    """
    traces, rows = [], []
    tunings = [(stratum.size, tuning) for stratum in strata[:2] for tuning in stratum.tunings]
    colours = assign_colours([*dict.fromkeys(tuning.arm for _, tuning in tunings)])
    if not any(tuning.carried_loss for _, tuning in tunings):
        return None
    for size, tuning in tunings:
        losses = {rate: loss for rate, loss in sorted(tuning.losses.items()) if loss is not None}
        least = min(losses.values(), default=0.0)
        is_smallest = size == strata[0].size
        symbols = ["star" if rate == tuning.best else "circle" for rate in losses]
        line = {"width": 2, "color": colours[tuning.arm], "dash": "dash" if is_smallest else "solid"}
        y = [loss - least for loss in losses.values()]
        marker = {"symbol": symbols, "size": [13 if symbol == "star" else 7 for symbol in symbols]}
        name = f"{tuning.arm}, {size}"
        traces.append(make_line([*losses], y, name, mode="lines+markers", marker=marker) | {"line": line})
        rows += [(tuning.arm, size, rate, loss, rate == tuning.best) for rate, loss in losses.items()]
    return Figure(
        title=f"Loss over learning rate at {strata[0].size}, dashed, and {strata[1].size}",
        data=traces,
        layout={
            "xaxis": make_axis("learning rate", type="log"),
            "yaxis": make_axis("loss above the curve's least"),
            "height": 360,
        },
        alt="; ".join(f"{arm} at {size}, {rate:g}: {loss:.4g}" for arm, size, rate, loss, _ in rows),
        heads=("arm", "size", "learning rate", "loss", "carried"),
        rows=rows,
        note="A star is the rate that is best at the smallest rung, and that all larger rungs are judged at.",
    )


def _label_rungs(ladder: LadderFindings) -> dict[str, Any]:
    """Return ticks that name the rungs with their FLOPs."""
    places = dict(zip(ladder.sizes, ladder.computes, strict=True))
    if ladder.projection and any(trend.projected for trend in ladder.arms):
        places[ladder.projection[0]] = ladder.projection[1]
    return {"tickvals": [*places.values()], "ticktext": [f"{size}<br>{flops:.1e}" for size, flops in places.items()]}


def _spread(low: float, high: float) -> list[float]:
    """Return points from low to high, evenly in their logarithm."""
    step = math.log(high / low) / (POINTS - 1)
    return [low * math.exp(step * number) for number in range(POINTS)]


def _predict(curve: Curve, flops: float) -> float:
    # relative to a reference near the data: C^-alpha itself would be tiny, and the scale huge
    return curve.floor + curve.scale * (flops / curve.reference) ** -curve.exponent
