"""Cells of a study: arms times seeds, each with its whole recipe, so that a cell is an ordinary run.

Seeds are outermost, so that a study that is cut short has whole blocks. Pure: recipes in, cells out.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gptlab.ablation.ladder.trunks import set_budget
from gptlab.ablation.options import StudyOptions
from gptlab.config.recipe import COSMETIC_KEYS, Recipe, set_values
from gptlab.errors import Refused
from gptlab.stats.labels import ArmValues, label_arm
from gptlab.stats.study_plan import Adjustment

LONGEST_NAME = 128
"""Bytes of a study's name, which is a folder's and a group's of W&B."""
KEYS_WITHOUT_EFFECT = (*COSMETIC_KEYS, "seed", "model.lr", "model.batch_size", "log_every", "save_every")
"""Keys that change no number of a run by themselves: sizes' lr and batch_size act through the knobs that take them."""


@dataclass(frozen=True)
class Variant:
    """One arm: its overrides on the command line, and its recipe, the seed aside.

    values       (knob, value) pairs that its name shows
    size         the model's choice, where a study has several sizes beside other axes
    adjustments  what was set to match the baseline
    """

    values: ArmValues
    overrides: list[str]
    recipe: Recipe
    size: str = ""
    adjustments: list[Adjustment] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name in its size."""
        return label_arm(self.values)

    @property
    def key(self) -> str:
        """Its name among all sizes."""
        return f"{self.size}/{self.name}" if self.size else self.name


@dataclass(frozen=True)
class Cell:
    """One run that the study needs. `twin` cells never share a run with another cell.

    trunk  key of the cell whose run this one branches off, or ""
    """

    variant: Variant
    recipe: Recipe
    role: Literal["arm", "twin", "budget", "confirm", "shuffled"] = "arm"
    budget: float = 1.0
    lr: float | None = None
    trunk: str = ""

    @property
    def key(self) -> str:
        """Its name in the study's folder, fit for a file."""
        # same recipe, same name as the baseline's cell: the suffix is all that keeps the two runs apart
        return self.recipe.folder + ("-twin" if self.role == "twin" else "")

    @property
    def label(self) -> str:
        """Its name for people."""
        words = [f"lr={self.lr:g}"] if self.lr is not None else []
        words += [f"{self.budget:g}x"] if self.budget != 1 else []
        words += {"twin": ["again"], "shuffled": ["on shuffled targets"]}.get(self.role, [])
        return " ".join([self.variant.key, *words])

    @property
    def overrides(self) -> list[str]:
        """The overrides with which train.py runs it alone."""
        words = self._list_words_of_budget()
        words += ["shuffle_targets=true"] if self.role == "shuffled" else []
        if self.lr is not None:
            words += [f"optimizer.{knob}={value}" for knob, value in scale_rates(self.variant, self.lr).items()]
        return [*self.variant.overrides, *words, f"seed={self.recipe.config['seed']}"]

    def _list_words_of_budget(self) -> list[str]:
        config, words = self.recipe.config, []
        if self.budget != 1:
            words.append(f"steps={config['steps']}")
            warmup = config["schedule"].get("warmup_steps")
            # as many as at one budget: else it would be reckoned from the new steps
            words += [f"schedule.warmup_steps={warmup}"] if warmup is not None else []
        if config.get("branches"):
            words.append(f"branches={config['branches']}".replace(" ", ""))
        return words

    def to_document(self, jobs: int) -> dict[str, Any]:
        """Return the cell as it is written into the study's folder. `jobs`: how many run beside it."""
        return {
            "arm": self.variant.name,
            "size": self.variant.size,
            "label": self.label,
            "role": self.role,
            "budget": self.budget,
            "lr": self.lr,
            "trunk": self.trunk,
            "seed": self.recipe.config["seed"],
            "hash": self.recipe.hash,
            "jobs": jobs,
            "overrides": self.overrides,
            "config": self.recipe.config,
            "choices": self.recipe.choices,
            "differs": list(self.recipe.differs),
        }


def hash_without_seed(recipe: Recipe) -> str:
    """Return a hash that is equal for recipes whose runs give the same numbers, the seed aside."""
    # model.lr and model.batch_size are left out: what they set elsewhere is hashed there
    config: dict[str, Any] = {key: value for key, value in recipe.config.items() if key not in KEYS_WITHOUT_EFFECT}
    config["model"] = {
        key: value for key, value in config["model"].items() if f"model.{key}" not in KEYS_WITHOUT_EFFECT
    }
    return replace(recipe, config=config).hash


def make_cells(options: StudyOptions, variants: list[Variant]) -> list[Cell]:
    """Return the arms under every seed; with tune=grid at every multiple of the arm's own learning rate.

    With tune=transfer the multiples are of its rate at the smallest rung, at which the largest rungs run alone until it
    is known which of them is best there.
    """
    cells = []
    smallest = {variant.name: variant for variant in variants if [variant.size] == options.ladder[:1]}
    for seed in options.blocks:
        for variant in variants:
            rates = make_rates(options, smallest[variant.name] if options.tune == "transfer" else variant)
            if options.tune == "transfer" and variant.size not in options.ladder[:2]:
                rates = [round_rate(smallest[variant.name].recipe.config["optimizer"]["lr"])]
            for rate in rates:
                cells.append(Cell(variant, set_seed_and_rate(variant, seed, rate), lr=rate))
    return cells


def make_rates(options: StudyOptions, variant: Variant) -> list[float] | list[None]:
    """Return the learning rates of an arm, ascending; [None] where they are not tuned."""
    if options.tune == "shared":
        return [None]
    # multiples, not rates: Muon's 2e-2 and AdamW's 4e-3 are both at home in one grid
    own = variant.recipe.config["optimizer"]["lr"]
    return [round_rate(own * multiple) for multiple in sorted({*options.lr_grid})]


def make_baseline_cells(options: StudyOptions, baseline: Variant, rate: float | None = None) -> list[Cell]:
    """Return the baseline at other budgets, a second time (A/A) and on shuffled targets, at its best rate if tuned."""
    cells = []
    for seed in options.blocks:
        recipe = set_seed_and_rate(baseline, seed, rate)
        for multiple in options.budgets:
            cells.append(Cell(baseline, set_budget(recipe, multiple), "budget", budget=multiple, lr=rate))
        if options.has_twin:
            cells.append(Cell(baseline, recipe, "twin", lr=rate))
        if options.controls:
            cells.append(Cell(baseline, set_values(recipe, shuffle_targets=True), "shuffled", lr=rate))
    return cells


def refuse_shared_cells(options: StudyOptions, baseline: Variant, variants: list[Variant]) -> None:
    """Refuse a budget or a control of the baseline that is the very run of an arm: one run cannot stand for both.

    variants  the arms of the baseline's size, matched
    """
    owners = {hash_without_seed(variant.recipe): variant.name for variant in variants}
    steps = baseline.recipe.config["steps"]
    for cell in make_baseline_cells(replace(options, seeds=1), baseline):
        if cell.role == "twin":
            continue
        run = hash_without_seed(cell.recipe)
        if run not in owners:
            owners[run] = cell.label
            continue
        asked = f"budget={options.budget}" if cell.budget in options.budget else "controls=true"
        if cell.role == "budget" and cell.recipe.config["steps"] == steps:
            # steps are whole: a short training has none that is a little shorter
            raise Refused(f"{asked}: {cell.budget:g}x of steps={steps} is {steps} steps too; give more steps")
        raise Refused(f"{asked} runs {cell.label}, which is {owners[run]} already; leave one of them out")


def make_confirmation_cells(options: StudyOptions, pairs: list[tuple[Variant, float | None]]) -> list[Cell]:
    """Return winner and baseline, each at its learning rate, on seeds that nothing else has used."""
    # fresh seeds: those of the study chose the winner, which makes its mean there too good
    first = max(options.blocks) + 1
    seeds = range(first, first + options.confirm)
    cells = []
    for seed in seeds:
        for variant, rate in pairs:
            cells.append(Cell(variant, set_seed_and_rate(variant, seed, rate), "confirm", lr=rate))
    return cells


def set_seed_and_rate(variant: Variant, seed: int, rate: float | None) -> Recipe:
    """Return a variant's recipe under a seed, at a learning rate if one is given."""
    knobs = {} if rate is None else scale_rates(variant, rate)
    return set_values(variant.recipe, seed=seed, **{f"optimizer__{knob}": value for knob, value in knobs.items()})


def scale_rates(variant: Variant, rate: float) -> dict[str, float]:
    """Return the optimizer's knobs at a learning rate: `lr`, and its other rates in proportion, as Muon's `adam_lr`."""
    optimizer = variant.recipe.config["optimizer"]
    factor = rate / optimizer["lr"]
    others = [knob for knob in optimizer if knob.endswith("_lr") and isinstance(optimizer[knob], int | float)]
    return {"lr": rate, **{knob: round_rate(optimizer[knob] * factor) for knob in others}}


def round_rate(rate: float) -> float:
    """Return a rate without the last digits that floats add."""
    return float(f"{rate:.6g}")


def drop_duplicates(cells: list[Cell]) -> list[Cell]:
    """Return each cell once, the first of equals."""
    return list({cell.key: cell for cell in reversed(cells)}.values())[::-1]


def hash_question(axes: dict[str, list[str]], base: Recipe, options: StudyOptions) -> str:
    """Return a hash of all that a study asks, except how many seeds it has, which may grow."""
    comparison = [getattr(options, knob) for knob in ("design", "match", "resize", "tune", "lr_grid")]
    details: list[Any] = [options.study] if options.kind != "train" else []
    details += [options.arms] if options.arms else []
    details += [options.tokens_per_parameter, options.rung_tokens] if options.ladder else []
    details += [options.tasks] if options.tasks else []
    details += [options.sampler, options.limits] if options.design == "search" else []
    details += [options.exclude] if options.exclude else []
    # sorted keys, so that a study has one name whatever the order of a dictionary
    text = json.dumps([axes, comparison, hash_without_seed(base), *details], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def make_study_name(axes: dict[str, list[str]], base: Recipe, options: StudyOptions) -> str:
    """Return a folder name: what is varied, and a hash of the question."""
    # the last part of a knob's path: it is the title of a page, and the hash tells studies apart
    words = "-".join(f"{axis.rpartition('.')[2]}_{'_'.join(values)}" for axis, values in axes.items()) or "seeds"
    words = "_".join(options.arms) if options.arms else words
    words = f"tasks-{words}" if options.tasks else words
    words = words if options.kind == "train" else f"{options.kind}-{words}".removesuffix("-seeds")
    filename = "".join(letter if letter.isalnum() or letter in "_.+-" else "_" for letter in words)
    if len(filename) > 60:  # between words where there are several: it is the title of pages too
        filename = re.sub(r"(?<=.)[_-][^_-]*$", "", filename[:61])[:60]
    return f"{filename.rstrip('._-')}-{hash_question(axes, base, options)}"


def refuse_bad_study_name(name: str | None) -> None:
    """Refuse a name that is no name of a folder inside outputs/ablations."""
    # a slash would put it elsewhere, a dot would hide it
    if name and (name.startswith(".") or {*name} & {*"/\\\0"}):
        raise Refused(f"name={name} is no name of one folder; give letters, digits, - and _, and outputs=<folder>")
    if name and len(name.encode()) > LONGEST_NAME:
        raise Refused(f"name={name[:20]}... has {len(name.encode())} bytes, and a folder's has {LONGEST_NAME} at most")
