"""Results of a study as plain data, by `report.findings.compare_study_folder`; tables, files and the report read it.

An arm is one recipe under several seeds; a block is one seed over all arms. Differences are arm less baseline, in the
unit of the metric; losses are nats per token.
"""

from dataclasses import dataclass, field
from typing import Literal

from gptlab.stats.downstream.signal_to_noise import SignalToNoise
from gptlab.stats.interactions.findings import Interaction
from gptlab.stats.ladder.findings import LadderFindings
from gptlab.stats.spending import Look
from gptlab.stats.study_plan import StudyPlan
from gptlab.stats.summary_keys import COUNTS, find_key

Verdict = Literal["better", "worse", "equivalent", "not resolved", "no verdict", "unstable"]
"""The four verdicts; none from one seed; unstable where seeds diverged."""


@dataclass(frozen=True)
class Metric:
    """A quantity that is compared.

    key     its key in summary.json
    seeded  whether it varies with the seed, so that intervals mean something; counts such as parameters do not
    """

    key: str
    name: str
    unit: str
    better: Literal["lower", "higher"] = "lower"
    seeded: bool = True


def make_metric(key: str) -> Metric:
    """Return the metric of a key of summary.json, as it is declared."""
    declared = find_key(key)
    if declared is None or declared.better == "none":
        raise ValueError(f"{key}: neither direction is better, so arms cannot be compared in it")
    name = declared.name or key.rpartition("/")[2].replace("_", " ")
    return Metric(key=key, name=name, unit=declared.unit, better=declared.better, seeded=declared not in COUNTS)


def is_comparable(key: str) -> bool:
    """Return whether arms can be compared in a key of summary.json."""
    declared = find_key(key)
    return declared is not None and declared.better != "none"


METRICS = tuple(
    map(
        make_metric,
        (
            "val/loss",
            "val/bits_per_byte",
            "val/answer_accuracy",
            "val/word_accuracy",
            "memory/peak_bytes",
            "cache_bytes_per_token",
            "weight_bits",
            "params",
            "params_active",
            "flops_per_token",
        ),
    )
)
"""Metrics of the summaries. The first one decides."""
ACCURACY = make_metric("val/answer_accuracy")
"""Decides where the data are a synthetic task."""
SELECT, TEST = "val/loss_select", make_metric("val/loss_test")
"""Of a search: by the mean over the first half of the validation split it chooses, by the second half it is judged."""

STEP = Metric("time/step_ms", "step time", "ms/step")
WRITE = make_metric("time/generate_ms_per_token")
"""Timed in one interleaved session of all arms, after training."""


@dataclass(frozen=True)
class Run:
    """One cell: its outcome and, if it finished, the numbers of its summary."""

    arm: str  # "attention=gqa", several knobs joined by blanks; "default" where nothing is changed
    seed: int
    status: Literal["finished", "diverged", "failed", "missing"]
    values: dict[str, float] = field(default_factory=dict)
    size: str = ""  # the model's choice, where a study has several sizes beside other axes
    # twin: the baseline under a second name; shuffled: the baseline with nothing to learn
    role: Literal["arm", "twin", "budget", "confirm", "shuffled"] = "arm"
    budget: float = 1.0  # of the study's steps
    lr: float | None = None  # one of the grid, if learning rates are tuned
    folder: str = ""
    reason: str = ""  # why it did not finish
    log: str = ""
    other_code: bool = False  # reused although the code has changed since
    facts: dict[str, str] = field(default_factory=dict)  # device, torch, code, data_sha256, ...


@dataclass(frozen=True)
class Contrast:
    """One arm less another (the baseline, unless all pairs are compared), over the seeds that both finished."""

    arm: str
    against: str
    seeds: tuple[int, ...]
    mean: float
    against_mean: float
    difference: float
    low: float  # 95 % t-interval of the difference
    high: float
    low90: float  # 90 %, for equivalence (TOST at 5 %)
    high90: float
    sd: float  # of a paired difference, with the variance that was used
    df: float
    own_sd: float  # with this arm's own differences alone
    p: float  # two-sided, with the variance that was used
    p_own: float
    p_holm: float  # over all comparisons with the baseline (or all pairs)
    verdict: Verdict
    more_seeds: int | None = None  # to the next look that may resolve it; None: not unresolved, or out of reach
    more_minutes: float | None = None
    level: float = 0.05  # that p_holm is compared with: alpha, or what the look leaves of it
    exploratory: bool = False  # judged with more seeds than planned, with another baseline, or by runs for choosing
    next_look: int | None = None  # seeds of the next planned look
    chance: float | None = None  # that the next planned look resolves it
    chance_at_last: float | None = None  # that the last one does
    interval_df: float = 0.0  # that the intervals count: at most `df`

    @property
    def label(self) -> str:
        """The verdict, marked where it is exploratory."""
        is_marked = self.exploratory and self.verdict not in ("no verdict", "unstable")
        return f"{self.verdict} (exploratory)" if is_marked else self.verdict


@dataclass(frozen=True)
class Noise:
    """The noise floor of a comparison.

    rho       correlation of arms over seeds
    gain      variance of an unpaired difference over that of a paired one: 1 where pairing by seed gained nothing
    smallest  the difference that these seeds would have seen with 80 % power
    """

    seed_sd: float
    pair_sd: float
    rho: float
    gain: float
    smallest: float
    twin: float | None = None  # largest |difference| of the baseline from itself, where that was run


@dataclass(frozen=True)
class Arm:
    """One row: how many seeds finished, diverged, failed; mean and SD of the finished ones."""

    arm: str
    finished: int
    diverged: int
    failed: int
    mean: float | None
    sd: float | None


@dataclass(frozen=True)
class Comparison:
    """All arms in one metric. `variance` is which one was used; `delta` the margin of equivalence."""

    metric: Metric
    baseline: str
    arms: list[Arm]
    contrasts: list[Contrast]
    pairs: list[Contrast]
    variance: Literal["pooled", "moderated", "own", "none"]
    delta: float
    delta_from: str  # in words: where the margin comes from
    noise: Noise | None
    notes: list[str] = field(default_factory=list)  # unequal seeds, one seed, ...
    noisy: list[str] = field(default_factory=list)  # arms, or the baseline, whose noise is not that of the others
    look: Look | None = None  # where in its plan of looks the study stands; None where it has none
    signal: SignalToNoise | None = None  # of a downstream task


@dataclass(frozen=True)
class Timing:
    """One interleaved session of timings.

    ratios  median over the rounds of each arm's time over the baseline's, with a 95 % interval
    spread  of the baseline against itself, below which there is no verdict
    """

    metric: Metric
    medians: dict[str, float]
    ratios: dict[str, tuple[float, float, float]]  # ratio, low, high
    spread: float  # largest |ratio - 1| of the A/A arm's interval
    verdicts: dict[str, Verdict]
    rounds: int


@dataclass(frozen=True)
class ComputeValue:
    """The worth of each arm in compute, from the baseline's loss at several budgets.

    slope        of the loss per ln(compute), < 0
    equivalents  compute that the baseline would need; an arm that may be worth a thousandfold has none
    """

    slope: float
    slope_error: float
    budgets: dict[float, float]  # multiple of the steps: mean loss
    equivalents: dict[str, tuple[float, float, float]]  # compute that the baseline would need: factor, low, high
    net: dict[str, tuple[float, float, float]]  # difference in loss net of speed, low, high; empty without timing


@dataclass(frozen=True)
class Tuning:
    """One arm over the grid of learning rates.

    losses       mean loss at each rate
    edge         whether the best is at an edge of the grid; then its loss is an upper bound
    sensitivity  mean over the grid less the best (Wortsman 2023, arXiv:2309.14322); None where a rate did not finish
    carried_loss  the grid's best rate and what the carried one, which is `best` then, loses against it; None if
                  `best` is of this very grid, or nothing else was run
    """

    arm: str
    losses: dict[float, float | None]  # None: diverged
    best: float | None
    edge: bool
    sensitivity: float | None
    carried_loss: tuple[float, float] | None = None


@dataclass(frozen=True)
class Front:
    """Loss against one cost: the arms that no other one beats on both beyond the interval."""

    cost: Metric
    front: list[str]
    dominated: dict[str, str]  # arm: by whom


@dataclass(frozen=True)
class Scaling:
    """One arm over three or more sizes: loss = a + slope ln(x), with a 95 % band of the slope."""

    arm: str
    against: Literal["params", "flops"]
    points: list[tuple[float, float]]
    slope: float
    low: float
    high: float


@dataclass(frozen=True)
class Stratum:
    """One size: all comparisons in it.

    confirmed  the winner and the baseline on fresh seeds, judged alone
    controls   the baseline at 0.95 and 1.05 of its steps, judged as any arm
    """

    size: str
    baseline: str
    comparisons: list[Comparison]
    timings: list[Timing]
    fronts: list[Front]
    exchange: ComputeValue | None = None
    tunings: list[Tuning] = field(default_factory=list)
    confirmed: Comparison | None = None
    controls: Comparison | None = None
    interactions: list[Interaction] = field(default_factory=list)  # of a grid's axes, in the metric that decides
    runs: list[Run] = field(default_factory=list)


@dataclass(frozen=True)
class Findings:
    """Results of a whole study.

    mismatch          how far apart the arms remain in what was matched
    minutes_per_cell  by size and arm, of the runs that finished
    ladder            the arms over all sizes, where these are the rungs of a ladder
    """

    plan: StudyPlan
    strata: list[Stratum]
    scalings: list[Scaling]
    runs: list[Run]
    mismatch: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # other code, several devices, a winner that changes with size, ...
    seconds: float = 0.0  # of all runs
    minutes_per_cell: dict[str, float] = field(default_factory=dict)
    ladder: LadderFindings | None = None

    @property
    def study(self) -> str:
        """The study's name."""
        return self.plan.study
