"""Keys of comparison.json, declared once: what each holds. docs/comparison.md is generated from here (make docs).

A table is one kind of object in the file. Its `kind` is the dataclass whose fields are its keys; tests hold both equal.
"""

from gptlab.report.render.key_table import KeyTable
from gptlab.report.render.ladder_keys import LADDER_TABLES
from gptlab.report.render.task_keys import SIGNAL
from gptlab.stats.interactions.findings import Interaction
from gptlab.stats.measurements import Measurements
from gptlab.stats.results import (
    Arm,
    Comparison,
    ComputeValue,
    Contrast,
    Findings,
    Front,
    Metric,
    Noise,
    Run,
    Scaling,
    Stratum,
    Timing,
    Tuning,
)
from gptlab.stats.spending import Look

VERSION = 1
"""Version of comparison.json: it grows when a key goes or changes its meaning, not when one is added."""

DOCUMENT = KeyTable(
    "The file",
    Findings,
    {
        "version": f"{VERSION}. It grows when a key goes or changes its meaning; new keys may come at any time",
        "study": "name of the study",
        "command": "the command that made it; empty if none did",
        "asked": "what study.json holds: `axes`, `arms`, `arm_values`, `base`, `design`, `seeds`, `match`, `tune`, "
        "...; and `minutes_per_cell` of the runs that finished, by size and arm",
        "strata": "one entry a size of model; a study of one size has one, whose `size` is empty",
        "scalings": "three sizes or more: how fast an arm gains with size",
        "ladder": "with `ladder=[...]` what each arm's gain does over the rungs, else null",
        "runs": "every run, as in results.csv",
        "mismatch": "how far apart the arms remain in what was matched, in words",
        "notes": "what arms do not have in common, other code, a winner that changes with size, ...",
        "caveats": "doubts, in words",
        "seconds": "of all runs",
    },
    added=("version", "study", "command", "asked", "caveats"),
    # both go into `asked`
    dropped=("plan", "minutes_per_cell"),
)
STRATUM = KeyTable(
    "Each of `strata`",
    Stratum,
    {
        "size": "the model's choice; empty where there is one",
        "baseline": "the arm that the others are compared with",
        "answer": "five lines; each has `text`, and a `command` that it speaks of, or an empty one",
        "sentences": "the verdicts in words, in the table's order, in the same form",
        "comparisons": "one a metric; the first one decides",
        "confirmed": "a comparison of the winner and the baseline on fresh seeds alone, or null",
        "controls": "with `controls=true` a comparison of the baseline at 0.95 and 1.05 of its steps, and on shuffled "
        "targets, with itself, else null",
        "interactions": "of a grid: every two changes of different axes, in the metric that decides",
        "timings": "interleaved timings of all arms, one a metric",
        "fronts": "loss against each cost",
        "exchange": "what differences are worth in compute; null where more training does not help the baseline, or no "
        "budgets were run",
        "tunings": "each arm over the grid of learning rates, with `tune=grid` or `tune=transfer`",
    },
    added=("answer", "sentences"),
    dropped=("runs",),  # they stand once, in the `runs` of the file
)
COMPARISON = KeyTable(
    "A comparison",
    Comparison,
    {
        "metric": "what is compared",
        "baseline": "the arm that the others are compared with",
        "arms": "every arm",
        "contrasts": "each arm less the baseline",
        "pairs": "those pairs that the study asks about, or all arms less each other with `pairs=true`",
        "variance": "which was used: pooled, moderated, own, or none",
        "delta": "the margin of equivalence, in the metric's unit",
        "delta_from": "where it comes from",
        "noise": "the noise floor; null where one seed is all",
        "notes": "unequal seeds, one seed, ...",
        "noisy": "a sentence for each arm that is far noisier than the others, and for such a baseline",
        "look": "where the study stands in its plan of looks; null where it has none",
        "signal": "of a downstream task its signal and noise, else null",
    },
)
METRIC = KeyTable(
    "`metric`",
    Metric,
    {
        "key": "its key in summary.json",
        "name": "what tables and sentences call it",
        "unit": "its unit",
        "better": "lower or higher",
        "seeded": "whether it varies with the seed; a count, such as parameters, does not",
    },
)
ARM = KeyTable(
    "Each of `arms`",
    Arm,
    {
        "arm": "its name in its size",
        "finished": "runs that finished",
        "diverged": "runs that diverged",
        "failed": "runs that failed",
        "mean": "of the finished ones",
        "sd": "of the finished ones, over seeds",
    },
)
CONTRAST = KeyTable(
    "A contrast",
    Contrast,
    {
        "arm": "the one",
        "against": "the other, mostly the baseline",
        "seeds": "that both finished; all that follows is over these",
        "mean": "of the arm",
        "against_mean": "of the other",
        "difference": "the one less the other",
        "low": "lower end of the 95 % t-interval of the difference; with a plan of looks, over all looks together",
        "high": "its upper end",
        "low90": "lower end of the 90 % interval, for equivalence",
        "high90": "its upper end",
        "sd": "of a paired difference, with the variance that was used",
        "df": "its degrees of freedom, that p counts",
        "interval_df": "those that the intervals count, at most df: always nearer to the baseline's own",
        "own_sd": "with this arm's own differences alone",
        "p": "two-sided, with the variance that was used",
        "p_own": "with the arm's own variance",
        "p_holm": "`p` corrected for all comparisons",
        "level": "what `p_holm` is compared with: alpha, or what the look leaves of it",
        "verdict": "better, worse, equivalent, not resolved, no verdict (one seed, or fewer than six rounds of a "
        "clock), unstable (seeds diverged)",
        "exploratory": "true if judged with more seeds than planned, with another baseline, or by runs for choosing",
        "more_seeds": "to the next planned look, or what would about resolve it; null if the plan cannot, or nothing "
        "sensible would",
        "more_minutes": "that these take",
        "next_look": "seeds of the next planned look",
        "chance": "probability that it resolves what is not resolved",
        "chance_at_last": "probability that the last look does",
    },
)
INTERACTION = KeyTable(
    "Each of `interactions`",
    Interaction,
    {
        "first": "a change, as norm=layernorm",
        "second": "a change of another axis",
        "contexts": "combinations of values of the other axes, over which all is averaged",
        "seeds": "that all of these arms finished",
        "first_alone": "difference from the baseline's values by the first change",
        "second_alone": "by the second",
        "together": "by both",
        "interaction": "`together` less the sum of both alone",
        "low": "lower end of its 95 % t-interval, over all looks together",
        "high": "its upper end",
        "low90": "lower end of the 90 % interval, for additivity",
        "high90": "its upper end",
        "sd": "of the interaction from seed to seed",
        "df": "its degrees of freedom",
        "variance": "pooled (over all arms of the size) or own",
        "p": "two-sided",
        "p_holm": "`p` corrected for all interactions of the size",
        "level": "what `p_holm` is compared with",
        "verdict": "synergistic, antagonistic, additive (within delta), not resolved",
    },
)
NOISE = KeyTable(
    "`noise`",
    Noise,
    {
        "seed_sd": "SD of an arm over seeds",
        "pair_sd": "SD of a paired difference",
        "rho": "correlation of arms over seeds",
        "gain": "variance of an unpaired difference over that of a paired one; 1 where pairing by seed gained nothing",
        "smallest": "the difference that would have been seen with 80 % power",
        "twin": "the largest difference of the baseline from itself, or null where it was not run twice",
    },
)
LOOK = KeyTable(
    "`look`",
    Look,
    {
        "seeds": "paired seeds that were judged",
        "number": "planned looks that are reached",
        "planned": "numbers of seeds of all planned looks",
        "spending": "how alpha is spent: pocock, hwang_shih_decani or obrien_fleming",
        "level": "what Holm's p is compared with",
        "spent": "of alpha, this look included",
        "alpha": "family-wise error, over all looks",
        "place": "planned, before (the first look), between (two), after (the last one: exploratory)",
    },
)
TIMING = KeyTable(
    "Each of `timings`",
    Timing,
    {
        "metric": "what was timed",
        "medians": "by arm",
        "ratios": "to the baseline by arm, as [ratio, low, high] with a 95 % interval over rounds",
        "spread": "of the baseline against itself, below which there is no verdict",
        "verdicts": "by arm",
        "rounds": "in which all arms took turns",
    },
)
FRONT = KeyTable(
    "Each of `fronts`",
    Front,
    {
        "cost": "a metric",
        "front": "the arms that none beats on both beyond the interval",
        "dominated": "of the others, by whom",
    },
)
EXCHANGE = KeyTable(
    "`exchange`",
    ComputeValue,
    {
        "slope": "of the baseline's loss by ln(compute), below 0",
        "slope_error": "its standard error",
        "budgets": "mean loss at each multiple of the steps",
        "equivalents": "compute that the baseline would need to be as good as an arm, as [factor, low, high]",
        "net": "the difference once speed is paid for, as [difference, low, high]; empty without timing",
    },
)
TUNING = KeyTable(
    "Each of `tunings`",
    Tuning,
    {
        "arm": "its name in its size",
        "losses": "mean loss by learning rate, null where it diverged",
        "best": "the best rate",
        "edge": "true if that is at the edge of the grid, so that the loss is an upper bound",
        "sensitivity": "the mean over the grid less the best, null where a rate diverged",
        "carried_loss": "with `tune=transfer`, above the smallest rung: the best rate there and what the carried one, "
        "which is `best`, loses against it, as [rate, loss]; null where no other rate ran",
    },
)
SCALING = KeyTable(
    "Each of `scalings`",
    Scaling,
    {
        "arm": "its name in its size",
        "against": "params or flops",
        "points": "as [x, loss]",
        "slope": "of the loss by ln(x)",
        "low": "lower end of its 95 % interval",
        "high": "its upper end",
    },
)
RUN = KeyTable(
    "Each of `runs`",
    Run,
    {
        "arm": "its name in its size",
        "seed": "of weights and batches",
        "size": "the model's choice, where a study has several",
        "status": "finished, diverged, failed or missing",
        "role": "arm, twin (the baseline again), budget, confirm or shuffled (the baseline with nothing to learn)",
        "budget": "multiple of the steps",
        "lr": "learning rate, if it was tuned",
        "values": "the numbers of summary.json",
        "folder": "its name in the pool of runs",
        "reason": "why it did not finish",
        "log": "where to read of that",
        "other_code": "true if it was reused although the code has changed",
        "facts": "device, versions, data",
    },
)
MEASUREMENTS = KeyTable(
    "The file of a study that measures without training",
    Measurements,
    {
        "version": "as above",
        "study": "name of the study",
        "asked": "what study.json holds",
        "baseline": "the first arm",
        "arms": "names of all arms",
        "arm_values": "(knob, value) pairs by arm; of a point of a curve the last pair is its size and value",
        "metric_values": "the same by metric, of those that were measured at several sizes",
        "values": "mean over blocks, by metric and arm",
        "timings": "times against the baseline's, as above",
        "after": "verdicts of the training that followed, in words",
        "strata": "one entry, whose `answer` is in the form above",
    },
    added=("version", "study", "asked", "strata"),
    dropped=("plan", "rows"),  # results.csv has the rows, thousands of them
)
TABLES = (
    *(DOCUMENT, STRATUM, COMPARISON, METRIC, ARM, CONTRAST, INTERACTION, NOISE, SIGNAL, LOOK),
    *(TIMING, FRONT, EXCHANGE, TUNING, SCALING, *LADDER_TABLES, RUN, MEASUREMENTS),
)
"""All kinds of objects, in the order of the page."""
