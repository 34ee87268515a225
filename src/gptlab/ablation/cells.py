"""The cells of a study: arms times seeds, each with its whole recipe, so that a cell is an ordinary run.

Seeds are outermost, so that a study that is cut short has whole blocks. Pure: recipes in, cells out.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gptlab.ablation.options import Asked
from gptlab.config.recipe import COSMETIC, Recipe, altered

INERT = (*COSMETIC, "seed", "model.lr", "model.batch_size", "log_every", "save_every")
"""Keys that change no number of a run by themselves: sizes' lr and batch_size act through the knobs that take them."""


@dataclass(frozen=True)
class Variant:
    """One arm: its name, what it says on the command line, and its recipe, the seed aside. `told`: what was resized or
    settled to match the baseline."""

    name: str
    overrides: list[str]
    recipe: Recipe
    size: str = ""
    told: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Its name among all sizes."""
        return f"{self.size}/{self.name}" if self.size else self.name


@dataclass(frozen=True)
class Cell:
    """One run to have. `twin` cells never share a run with another cell."""

    variant: Variant
    recipe: Recipe
    role: Literal["arm", "twin", "budget", "confirm"] = "arm"
    budget: float = 1.0
    lr: float | None = None

    @property
    def key(self) -> str:
        """Its name in the study's folder, fit for a file."""
        return self.recipe.folder + ("-twin" if self.role == "twin" else "")

    @property
    def label(self) -> str:
        """What a person sees of it."""
        more = [f"lr={self.lr:g}"] if self.lr is not None else []
        more += [f"{self.budget:g}x"] if self.budget != 1 else []
        more += ["again"] if self.role == "twin" else []
        return " ".join([self.variant.key, *more])

    @property
    def overrides(self) -> list[str]:
        """What train.py is told to run it alone."""
        more = [f"steps={self.recipe.config['steps']}"] if self.budget != 1 else []
        more += [f"optimizer.lr={self.lr}"] if self.lr is not None else []
        return [*self.variant.overrides, *more, f"seed={self.recipe.config['seed']}"]

    def plain(self, jobs: int) -> dict[str, Any]:
        """As it is written into the study's folder. `jobs`: how many run beside it."""
        return {
            "arm": self.variant.name,
            "size": self.variant.size,
            "label": self.label,
            "role": self.role,
            "budget": self.budget,
            "lr": self.lr,
            "seed": self.recipe.config["seed"],
            "hash": self.recipe.hash,
            "jobs": jobs,
            "overrides": self.overrides,
            "config": self.recipe.config,
            "choices": self.recipe.choices,
            "differs": list(self.recipe.differs),
        }


def signature(recipe: Recipe) -> str:
    """Equal for recipes whose runs say the same numbers, the seed aside."""
    kept: dict[str, Any] = {key: value for key, value in recipe.config.items() if key not in INERT}
    kept["model"] = {key: value for key, value in kept["model"].items() if f"model.{key}" not in INERT}
    return replace(recipe, config=kept).hash


def cells(asked: Asked, variants: list[Variant]) -> list[Cell]:
    """The arms under every seed."""
    rates = [*sorted({*asked.lr_grid})] if asked.tune == "grid" else [None]
    return [
        Cell(variant, at_rate(variant, seed, rate), lr=rate)
        for seed in asked.blocks
        for variant in variants
        for rate in rates
    ]


def of_baseline(asked: Asked, baseline: Variant, rate: float | None = None) -> list[Cell]:
    """The baseline at other budgets and a second time, at its best learning rate if those are tuned."""
    steps, found = baseline.recipe.config["steps"], []
    for seed in asked.blocks:
        plain = at_rate(baseline, seed, rate)
        for part in asked.budgets:
            found.append(Cell(baseline, altered(plain, steps=max(1, round(steps * part))), "budget", part, rate))
        if asked.aa:
            found.append(Cell(baseline, plain, "twin", lr=rate))
    return found


def confirmation(asked: Asked, pairs: list[tuple[Variant, float | None]]) -> list[Cell]:
    """Winner and baseline, each at its learning rate, on seeds that nothing else has used."""
    first = max(asked.blocks) + 1
    seeds = range(first, first + asked.confirm)
    return [
        Cell(variant, at_rate(variant, seed, rate), "confirm", lr=rate) for seed in seeds for variant, rate in pairs
    ]


def at_rate(variant: Variant, seed: int, rate: float | None) -> Recipe:
    """A variant's recipe under a seed, at a learning rate if one is given."""
    recipe = altered(variant.recipe, seed=seed)
    return recipe if rate is None else altered(recipe, optimizer__lr=rate)


def distinct(found: list[Cell]) -> list[Cell]:
    """Each cell once, the first of equals kept."""
    return list({cell.key: cell for cell in reversed(found)}.values())[::-1]


def asks(axes: dict[str, list[str]], base: Recipe, asked: Asked) -> str:
    """A hash of all that a study asks beside how many seeds it has, which may grow."""
    kind = [getattr(asked, knob) for knob in ("design", "match", "resize", "tune", "lr_grid")]
    measured: list[Any] = [asked.study] if asked.kind != "train" else []
    measured += [asked.sampler, asked.limits] if asked.design == "search" else []
    told = json.dumps([axes, kind, signature(base), *measured], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:6]


def study_name(axes: dict[str, list[str]], base: Recipe, asked: Asked) -> str:
    """What is varied, and a hash of what is asked."""
    words = "-".join(f"{axis.rpartition('.')[2]}_{'_'.join(values)}" for axis, values in axes.items()) or "seeds"
    words = words if asked.kind == "train" else f"{asked.kind}-{words}".removesuffix("-seeds")
    plain = "".join(letter if letter.isalnum() or letter in "_.+-" else "_" for letter in words)[:60].rstrip("._-")
    return f"{plain}-{asks(axes, base, asked)}"
