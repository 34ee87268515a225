"""The study's own knobs, beside those of the runs, typed and checked."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gptlab.config.typecheck import conforms, describe_type, format_value, show_value
from gptlab.errors import Refused
from gptlab.stats.results import is_comparable
from gptlab.stats.spending import Spending
from gptlab.stats.study_plan import CONTROL_BUDGETS


@dataclass(frozen=True)
class StudyOptions:
    """The knobs of conf/ablate.yaml that train.yaml does not have."""

    study: dict[str, Any]  # the choice in conf/study; `kind` below is its name
    design: Literal["grid", "star", "leave_one_out", "search"]
    trials: int
    sampler: Literal["tpe", "random", "grid"]
    limits: dict[str, float] | None
    arms: dict[str, list[str]] | str | None
    grids: list[str]
    exclude: list[str]
    tasks: dict[str, list[str]] | str | None
    seeds: int | list[int]
    looks: list[int]
    spending: Spending
    until: Literal["seeds", "resolved"]
    register: bool
    campaign: str | None
    baseline: str | None
    budget: list[float]
    ladder: list[str]
    tokens_per_parameter: float
    rung_tokens: list[float]
    project: str | None
    project_limit: float
    confirm: int
    aa: bool
    controls: bool
    match: Literal["tokens", "params", "flops", "time"]
    resize: str
    tune: Literal["shared", "grid", "transfer"]
    lr_grid: list[float]
    variance: Literal["auto", "own", "pooled", "moderated"]
    decides: str | None
    delta: float | None
    pairs: bool
    timing: float
    jobs: int | Literal["auto"]
    reuse: Literal["same_code", "any_code", "never"]
    dry_run: bool

    @property
    def kind(self) -> str:
        """The name of the study's file: train, decode, ..."""
        return str(self.study.get("_target_")).split(".")[-2]

    @property
    def blocks(self) -> list[int]:
        """The seeds, in order, each once."""
        # a number of seeds is always 0, 1, ..., so that a later, larger one adds to what is done
        return list(range(self.seeds)) if isinstance(self.seeds, int) else sorted({*self.seeds})

    @property
    def asks_on_fresh_seeds(self) -> bool:
        """Whether its one question in a campaign is the winner on fresh seeds."""
        return bool(self.campaign and self.confirm)

    @property
    def budgets(self) -> list[float]:
        """The multiples of the baseline's steps other than 1."""
        # 1 is the arm itself, which runs anyway
        controls = CONTROL_BUDGETS if self.controls else ()
        return sorted({float(multiple) for multiple in (*self.budget, *controls)} - {1.0})

    @property
    def has_twin(self) -> bool:
        """Whether the baseline runs a second time."""
        return self.aa or self.controls


LIMITS = ("params", "params_active", "flops_per_token", "cache_bytes_per_token", "step_ms")
"""Quantities that a search can be kept below, each known before anything is trained."""
KNOBS = tuple(field.name for field in dataclasses.fields(StudyOptions))


MIN_HIGHEST_MULTIPLE = 0.1
"""Grids wholly below are learning rates, which no arm would learn at as multiples of its own."""


def check_options(values: dict[str, Any]) -> StudyOptions:
    """Return the typed options, or refuse all that is wrong."""
    if isinstance(values["baseline"], int | float):  # an arm's value: model.layers=2,4 baseline=2
        # hydra has read it as a number, and arms go by text
        values = {**values, "baseline": format_value(values["baseline"])}
    if isinstance(values["exclude"], list):  # an arm's value likewise
        values = {**values, "exclude": [*map(_write_value, values["exclude"])]}
    wrong = []
    for field in dataclasses.fields(StudyOptions):
        value = values[field.name]
        if not conforms(value, field.type):
            wrong.append(f"{field.name}={format_value(value)} is not {describe_type(field.type, value)}")
    # ranges only of what has its type: they compare numbers
    wrong = wrong or list(_check_ranges(values))
    if wrong:
        raise Refused("\nerror: ".join(wrong))
    return StudyOptions(**{name: values[name] for name in KNOBS})


def _write_value(value: Any) -> Any:
    """Return a value that hydra has read as a number or a truth as text, as arms have it; all else as it is."""
    return format_value(value) if isinstance(value, int | float | None) else value


def _check_ranges(values: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with values of the right types."""
    seeds = values["seeds"]
    if seeds == [] or (isinstance(seeds, int) and seeds < 1):
        yield f"seeds={seeds} asks for none; give 1 or more, 3 for a verdict"
    yield from _check_looks(values)
    yield from _check_ladder(values)
    # what a torch.Generator takes
    if isinstance(seeds, list) and any(not 0 <= value < 2**63 for value in seeds):
        yield f"seeds={seeds}: a seed is in 0 .. 2^63 - 1"
    if any(value <= 0 for value in values["budget"]):
        yield f"budget={values['budget']} must be positive multiples of the steps; try [0.5,1,2]"
    # one seed has no variance, so it could confirm nothing
    if values["confirm"] < 0 or values["confirm"] == 1:
        yield f"confirm={values['confirm']} fresh seeds decide nothing; 0 leaves it out, 5 is usual"
    if values["tune"] != "shared" and len({*values["lr_grid"]}) < 2:
        yield f"lr_grid={values['lr_grid']} is no grid; give two multiples or more, as [0.5,1.5,5], or tune=shared"
    if values["tune"] == "transfer" and not values["ladder"]:
        yield "tune=transfer carries rates up from a ladder's smallest rung; give ladder=[nano,micro], or say tune=grid"
    if any(value <= 0 for value in values["lr_grid"]):
        yield f"lr_grid={values['lr_grid']}: multiples of a learning rate are positive"
    elif values["lr_grid"] and max(values["lr_grid"]) < MIN_HIGHEST_MULTIPLE:
        yield f"lr_grid={values['lr_grid']} are multiples of each arm's own learning rate, not rates; try [0.5,1.5,5]"
    if any(not text.strip() for text in values["exclude"]):
        yield f"exclude={values['exclude']} has an empty text; write an arm's name, or some of its overrides"
    if values["delta"] is not None and values["delta"] <= 0:
        yield f"delta={values['delta']} is no margin; give nats > 0, or null"
    if values["decides"] is not None and not is_comparable(values["decides"]):
        yield f"decides={values['decides']} is no key of summary.json with a better direction; see docs/comparison.md"
    if values["trials"] < 1:
        yield f"trials={values['trials']} tries nothing; 20 is a beginning"
    if values["controls"] and {*CONTROL_BUDGETS} & {*values["budget"]}:
        yield f"controls=true runs budget={list(CONTROL_BUDGETS)} itself; leave them out of budget"
    for name, most in (values["limits"] or {}).items():
        if name not in LIMITS:
            yield f"limits={{{name}: {show_value(most)}}} is no limit; choose from {', '.join(LIMITS)}"
    if values["jobs"] != "auto" and values["jobs"] < 1:
        yield f"jobs={values['jobs']} runs nothing; give 1 or more, or auto"
    if values["timing"] < 0:
        yield f"timing={values['timing']} seconds; 0 leaves it out"


def _check_ladder(values: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a ladder, and with knobs that speak of one where there is none."""
    ladder, tokens, rungs = values["ladder"], values["rung_tokens"], len(values["ladder"])
    written = f"ladder=[{','.join(ladder)}]"
    for knob in ("tokens_per_parameter", "project_limit"):
        if values[knob] <= 0:
            yield f"{knob}={values[knob]} must be positive"
    if not ladder:
        for knob in ("rung_tokens", "project"):
            if values[knob]:
                yield f"{knob}={values[knob]} speaks of a ladder; give ladder=[nano,micro,mini], or leave it out"
        return
    # a change over the rungs needs two of them
    if rungs < 2 or len({*ladder}) < rungs:
        yield f"{written} needs two sizes or more, each once; try ladder=[nano,micro]"
    if tokens and (len(tokens) != rungs or min(tokens) <= 0):
        yield f"rung_tokens={tokens} are not the tokens of {rungs} rungs; give a number > 0 for each"
    if values["project"] and rungs < 3:
        yield f"project={values['project']}: two rungs give a line that nothing checks; add a rung, or leave it out"
    for knob, required in {"design": ("grid", "star", "leave_one_out"), "until": ("seeds",)}.items():
        if values[knob] not in required:
            yield f"{written} does not go with {knob}={values[knob]}; leave one of them out"


def _check_looks(values: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the plan of looks, and what does not go with a race."""
    looks = values["looks"]
    if not looks:
        yield "looks=[] plans no look; [5] is a single one, with all of alpha"
    elif looks[0] < 2:
        yield f"looks={looks}: a look needs 2 seeds or more; try [3,5,8]"
    elif looks != sorted({*looks}):
        yield f"looks={looks} must increase; try {sorted({*looks})}"
    # a search and a grid of rates add cells by themselves, which a race would have to judge half-made
    if values["until"] == "resolved":
        for knob, required in {"design": ("grid", "star", "leave_one_out"), "tune": ("shared",)}.items():
            if values[knob] not in required:
                yield f"until=resolved does not go with {knob}={values[knob]}; say seeds=N for each look"
        if isinstance(values["seeds"], list):
            yield f"seeds={values['seeds']} does not go with until=resolved, which takes 0, 1, 2, ...; leave it out"
