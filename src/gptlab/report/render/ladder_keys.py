"""Keys of `ladder` in comparison.json: what a gain does from size to size."""

from gptlab.report.render.key_table import KeyTable
from gptlab.stats.ladder.findings import ArmTrend, Curve, Estimate, LadderFindings, RungGain

LADDER_TABLES = (
    KeyTable(
        "`ladder`",
        LadderFindings,
        {
            "sizes": "rungs, the smallest first",
            "computes": "training FLOPs of the baseline at each",
            "baseline": "the arm that the others are compared with",
            "unit": "of gains",
            "arms": "one entry an arm",
            "curves": "one entry an arm; empty with two rungs",
            "projection": "size and FLOPs that gains are projected to, or null",
            "level": "of its intervals: what the looks leave of alpha, over the number of arms",
            "misfit": "probability that seeds alone depart so far from the curves",
            "notes": "doubts, in words",
        },
    ),
    KeyTable(
        "Each of a ladder's `arms`",
        ArmTrend,
        {
            "arm": "its name",
            "word": "holds, shrinks, grows, flips, not resolved or no verdict",
            "rungs": "one entry a size",
            "first": "the fitted gain at the smallest rung",
            "last": "the same at the largest",
            "change": "the second less the first",
            "low90": "lower end of its interval for equivalence",
            "high90": "upper end of it",
            "per_decade": "change for tenfold compute",
            "projected": "gain at the size of `projection`, or null",
            "left_out": "rungs without the arm because it was worse at two before",
        },
    ),
    KeyTable(
        "Each of an arm's `rungs`",
        RungGain,
        {
            "size": "the model's choice",
            "compute": "training FLOPs of the baseline there",
            "seeds": "paired seeds",
            "gain": "baseline less arm: above 0 the arm is better",
            "verdict": "of this rung alone",
            "multiplier": "compute that the baseline would need for the arm's loss, or null",
        },
    ),
    KeyTable(
        "An estimate",
        Estimate,
        {"value": "itself", "low": "lower end of its interval", "high": "upper end"},
    ),
    KeyTable(
        "Each of `curves`: loss = floor + scale (C / reference)^-exponent, C in training FLOPs",
        Curve,
        {
            "arm": "its name",
            "floor": "nats/token that no compute removes; the same for all arms",
            "scale": "nats/token above it at the reference",
            "exponent": "how fast that falls",
            "reference": "training FLOPs",
        },
    ),
)
"""All kinds of objects below `ladder`."""
