"""A study made by hand: an arm of every kind, with all that a study can find beside its verdicts."""

from gptlab.stats.results import (
    METRICS,
    STEP,
    Arm,
    Comparison,
    ComputeValue,
    Contrast,
    Findings,
    Front,
    Metric,
    Noise,
    Run,
    Stratum,
    Timing,
    Verdict,
)
from gptlab.stats.study_plan import StudyPlan

BY_KEY = {metric.key: metric for metric in METRICS}
BASE = "attention=mha"
Row = tuple[float, float, Verdict]
ROWS: dict[str, Row] = {  # arm: difference, half-width of its interval, verdict
    "attention=gqa": (-0.0182, 0.0071, "better"),
    "attention=mla": (0.0011, 0.0068, "equivalent"),
    "attention=swa": (0.0213, 0.0072, "worse"),
    "attention=linear": (0.0043, 0.0101, "not resolved"),
    "attention=hybrid": (0.0431, 0.0302, "unstable"),
}
BROKEN = "attention=glob_*_|_&"


def contrast(arm: str, difference: float, half: float, verdict: Verdict, mean: float = 2.4123) -> Contrast:
    """Against the baseline, as three seeds would give it."""
    p = {"better": 0.0004, "worse": 0.012}.get(verdict, 0.3141)
    low, high = difference - half, difference + half
    near = (difference - 0.8 * half, difference + 0.8 * half)
    more = (9, 6.2) if verdict == "not resolved" else (None, None)
    seeds = (0,) if verdict == "no verdict" else (0, 1, 2)
    return Contrast(
        *(arm, BASE, seeds, mean + difference, mean, difference, low, high, *near),
        sd=half / 2.5,
        df=8,
        own_sd=half / 3,
        p=p / 3,
        p_own=p * 2,
        p_holm=p,
        verdict=verdict,
        more_seeds=more[0],
        more_minutes=more[1],
    )


def comparison(metric: Metric = METRICS[0], mean: float = 2.4123, **rows: Row) -> Comparison:
    """One metric over all arms; `rows` by value of attention, the usual ones without."""
    made = {f"attention={name}": row for name, row in rows.items()} or ROWS
    arms = [Arm(BASE, 3, 0, 0, mean, 0.012)]
    arms += [
        Arm(arm, 2 if row[2] == "unstable" else 3, int(row[2] == "unstable"), 0, mean + row[0], 0.01)
        for arm, row in made.items()
    ]
    arms += [Arm(BROKEN, 0, 0, 3, None, None)] if not rows else []
    contrasts = [contrast(arm, *row, mean) for arm, row in made.items()]
    noise = Noise(seed_sd=0.0127, pair_sd=0.0072, rho=0.68, gain=3.13, smallest=0.0117, twin=0.0)
    return Comparison(metric, BASE, arms, contrasts, [], "pooled", 0.012, "0.5 % of the baseline's loss", noise)


def counted(key: str, baseline: float, **values: float) -> Comparison:
    """A metric that no seed changes."""
    rows: dict[str, Row] = {name: (value - baseline, 0.0, _sign(value - baseline)) for name, value in values.items()}
    return comparison(BY_KEY[key], baseline, **rows)


def _sign(difference: float) -> Verdict:
    return "better" if difference < 0 else "worse" if difference > 0 else "equivalent"


TIMING = Timing(
    STEP,
    {BASE: 12.14, "attention=gqa": 12.52, "attention=mla": 12.9, "attention=swa": 11.3, "attention=linear": 12.2},
    {
        "attention=gqa": (1.031, 1.024, 1.038),
        "attention=mla": (1.063, 1.055, 1.071),
        "attention=swa": (0.931, 0.925, 0.937),
        "attention=linear": (1.004, 0.997, 1.011),
    },
    0.006,
    {"attention=gqa": "worse", "attention=mla": "worse", "attention=swa": "better", "attention=linear": "not resolved"},
    40,
)
OTHERS = [
    comparison(
        BY_KEY["val/bits_per_byte"],
        3.4802,
        gqa=(-0.026, 0.01, "better"),
        mla=(0.002, 0.01, "equivalent"),
        swa=(0.031, 0.01, "worse"),
        linear=(0.006, 0.014, "not resolved"),
    ),
    comparison(
        BY_KEY["val/word_accuracy"],
        0.312,
        gqa=(0.02, 0.011, "better"),
        mla=(0.001, 0.012, "not resolved"),
        swa=(-0.03, 0.012, "worse"),
        linear=(0.002, 0.012, "not resolved"),
    ),
    comparison(
        BY_KEY["memory/peak_bytes"],
        412e6,
        gqa=(-3e6, 1e6, "better"),
        mla=(2e6, 4e6, "not resolved"),
        swa=(0.0, 1e6, "equivalent"),
        linear=(9e6, 1e6, "worse"),
    ),
    counted("cache_bytes_per_token", 4096, gqa=1024, mla=1280, swa=4096, linear=512),
    counted("params", 212_480, gqa=188_000, mla=216_000, swa=212_480, linear=212_480),
    counted("flops_per_token", 1_664_256, gqa=1_664_256, mla=1_664_256, swa=1_664_256, linear=1_664_256),
]
RUNS = [
    Run(
        arm,
        seed,
        "finished",
        {"val/loss": 2.4 + 0.01 * seed, "params": 212_480.0},
        folder=f"nano-{number}-s{seed}",
        facts={"device": "CPU, 2 cores", "torch": "2.13.0"},
    )
    for seed in range(3)
    for number, arm in enumerate([BASE, *ROWS])
]
RUNS += [Run(BROKEN, 0, "failed", reason="OutOfMemoryError: 12 GiB | asked", log="outputs/runs/x/log.txt")]
PLAN = StudyPlan(
    study="attention-1a2b3c",
    command=["python", "ablate.py", "-m", "attention=mha,gqa", "seeds=3", "data.path=my text.txt"],
    axes={"attention": ["mha", "gqa"]},
    arms={BASE: [BASE], "attention=gqa": ["attention=gqa"]},
    arm_values={arm: (("attention", arm.partition("=")[2]),) for arm in (BASE, *ROWS, BROKEN)},
    base=["model=nano"],
    match="tokens",
    tune="shared",
    design="grid",
    seeds=[0, 1, 2],
)
EXCHANGE = ComputeValue(
    -0.21,
    0.01,
    {0.5: 2.561, 1: 2.4123, 2: 2.27},
    {"attention=gqa": (1.09, 1.05, 1.13), "attention=swa": (0.904, 0.87, 0.94)},
    {"attention=gqa": (-0.0118, -0.019, -0.004), "attention=swa": (0.0063, -0.001, 0.013)},
)
FRONT = Front(
    BY_KEY["cache_bytes_per_token"], ["attention=gqa"], {BASE: "attention=gqa", "attention=swa": "attention=gqa"}
)


def findings(**stratum: object) -> Findings:
    """A study with an arm of every kind."""
    known: dict = {"timings": [], "fronts": [], "comparisons": [comparison()], "runs": RUNS} | stratum
    return Findings(PLAN, [Stratum("", BASE, **known)], [], RUNS, seconds=126.0)


FULL = findings(comparisons=[comparison(), *OTHERS], timings=[TIMING], fronts=[FRONT], exchange=EXCHANGE)
