"""The plan of a study, which is study.json: what is compared, and how."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from gptlab.stats.labels import ArmValues
from gptlab.stats.spending import ALPHA, Spending

CONTROL_BUDGETS = (0.95, 1.05)
"""Multiples of the baseline's steps at which controls=true runs it too: a study should see 5 % of compute."""


class Adjustment(NamedTuple):
    """A knob that was set to make an arm match the baseline, and the sentence that says why."""

    knob: str
    value: Any
    reason: str


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """Content of study.json, of training and of measuring studies alike; a key is a field.

    Defaults stand for what a file of an older gptlab, or a comparison of lone runs, does not say.
    """

    study: str  # its name
    # the knobs of conf/ablate.yaml
    design: str = ""
    trials: int = 0
    sampler: str = ""
    limits: dict[str, float] | None = None
    grids: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    looks: list[int] = field(default_factory=list)  # seeds at which it is judged; none: once, with all of alpha
    spending: Spending = "pocock"
    campaign: str | None = None
    register: bool = False
    until: str | None = None  # resolved: goes from look to look, with those arms that are still open
    baseline: str | None = None
    budget: list[float] = field(default_factory=list)
    ladder: list[str] = field(default_factory=list)  # sizes as rungs, from small to large
    tokens_per_parameter: float = 0.0
    rung_tokens: list[float] = field(default_factory=list)
    project: str | None = None  # the size that gains over the rungs are projected to
    project_limit: float = 0.0
    project_flops: float | None = None  # of a training of the baseline there
    confirm: int = 0
    aa: bool = False
    controls: bool = False
    match: str = ""
    resize: str = ""
    tune: str = ""
    lr_grid: list[float] = field(default_factory=list)
    tasks: dict[str, list[str]] | None = None  # overrides by task: a task is judged by itself
    decides: str | None = None
    variance: Literal["auto", "own", "pooled", "moderated"] = "auto"
    delta: float | None = None
    pairs: bool = False
    timing: float = 0.0
    reuse: str = "same_code"
    dry_run: bool = False
    # the question
    kind: str = "train"  # the choice of study: train, decode, ...
    knobs: dict[str, Any] | None = None  # of a study that measures its arms together; None where arms are trained
    asks: str = ""  # a hash of the question, which a study of the same name must share
    command: list[str] = field(default_factory=list)
    cwd: str = ""
    axes: dict[str, list[str]] = field(default_factory=dict)
    alpha: float = ALPHA  # family-wise error of its verdicts: what its campaign leaves it, or 5 %
    versus: list[tuple[str, str]] = field(default_factory=list)  # pairs of arms that are compared with each other
    base: list[str] = field(default_factory=list)  # overrides that all arms have
    arms: dict[str, list[str]] = field(default_factory=dict)  # overrides by the arm's name among all sizes
    arm_values: dict[str, ArmValues] = field(default_factory=dict)  # by the arm's name in its size
    settled: dict[str, list[Adjustment]] = field(default_factory=dict)
    # its cells
    cells: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)  # estimated, of each cell that was not done
    jobs: int = 1
    counts: dict[str, dict[str, float]] = field(default_factory=dict)  # parameters, FLOPs and cache bytes by arm
    mismatch: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    # not of study.json, but of the ledger
    looked: list[int] = field(default_factory=list)  # numbers of seeds at which it has been judged
    budget_came_later: bool = False  # than its first judging, so that the margin does not follow from it

    @property
    def asks_on_fresh_seeds(self) -> bool:
        """Whether its one question in a campaign is the winner on fresh seeds, and all else chooses it."""
        return bool(self.campaign and self.confirm)

    def get_values(self, arm: str) -> ArmValues:
        """Return the (knob, value) pairs of an arm, given its name in its size."""
        # an arm that only a comparison of lone runs knows has no knobs, only a name
        return self.arm_values.get(arm, (("", arm),))

    def to_document(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        document = asdict(self)
        del document["looked"], document["budget_came_later"]
        if self.knobs is None:  # the key tells a measuring study from a training one
            del document["knobs"]
        return document
