"""What a choice is, read from its files; and what it costs, counted on a decoder without memory."""

import ast
import difflib
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from gptlab.build import sketch
from gptlab.config.factory import check_node, find_slot_package, locate
from gptlab.config.menu import CONF, options
from gptlab.config.recipe import LISTS, PARTS, Recipe, check_settings
from gptlab.errors import Refused

ROOT = CONF.parent
VOCAB = 65
"""Characters of Tiny Shakespeare: the vocabulary at which costs are counted."""
HIDDEN = ("_target_", "_partial_", "# @package", "defaults:")
"""Lines of a YAML that are no knobs."""

Compose = Callable[[list[str]], Recipe]


@dataclass(frozen=True)
class Card:
    """A choice's files relative to the tree, what its code and its YAML say of it, its knobs as the YAML has them."""

    files: list[str]
    said: list[str]
    knobs: str


def slots() -> list[str]:
    """Every folder of choices."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")


def refuse_unknown(slot: str, choice: str) -> None:
    """A slot or a choice that does not exist; the choice may be empty."""
    if slot not in slots():
        near = difflib.get_close_matches(slot, slots(), 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(slots())}"
        raise Refused(f"{slot}: no such slot; {hint}")
    if choice and choice not in options(slot):
        raise Refused(f"{slot}={choice}: no such option; choose from {', '.join(options(slot))}")


def gist(slot: str, choice: str) -> str:
    """A choice in a line: what its YAML says first, else what its code says of it by name, else the code's first
    sentence. Reads, imports nothing."""
    text = (CONF / slot / f"{choice}.yaml").read_text(encoding="utf-8")
    if remark := remarks(text):
        return remark.splitlines()[0]
    target = re.search(r"^_target_: (gptlab\.\S+)\.", text, re.M)
    if target is None:
        return ", ".join(line for line in text.splitlines() if ":" in line)
    code = ROOT / "src" / Path(*target[1].split(".")).with_suffix(".py")
    said = ast.get_docstring(ast.parse(code.read_text(encoding="utf-8"))) or ""
    own = re.search(rf"^{choice}  +(.*)$", said, re.M)
    return re.sub(r"  +", ", ", own[1]) if own else said.partition("\n\n")[0].replace("\n", " ")


def taken(recipe: Recipe, slot: str) -> bool:
    """Whether a run chooses of a slot by itself. A format it chooses within another."""
    return slot in LISTS or slot in recipe.choices


def card(recipe: Recipe, slot: str, choice: str) -> Card:
    """What there is to read of a choice of a recipe."""
    file = CONF / slot / f"{choice}.yaml"
    text = file.read_text(encoding="utf-8")
    knobs = "\n".join(line for line in text.splitlines() if line and not line.startswith((*HIDDEN, "#", "  - ")))
    node = recipe.config.get(slot) or {} if taken(recipe, slot) else yaml.safe_load(text)
    node = node[choice] if slot in LISTS else node
    if not isinstance(node, dict) or "_target_" not in node:  # sizes, tracking, recipes: YAML alone
        return Card([shortened(file)], [remarks(text)], knobs)
    target = locate(node["_target_"], slot)
    module = sys.modules[target.__module__]
    home = f"{find_slot_package(slot)}."
    said = [module.__doc__] if target.__module__.startswith(home) else []  # a pattern lies elsewhere
    said = [inspect.cleandoc(one) for one in (*said, target.__doc__, remarks(text)) if one]
    return Card([shortened(Path(inspect.getsourcefile(target) or "")), shortened(file)], said, knobs)


def remarks(text: str) -> str:
    """The comment at the head of a YAML."""
    head = re.match(r"(?:#.*\n)*", text)
    lines = [line.removeprefix("#").strip() for line in head[0].splitlines()] if head else []
    return "\n".join(line for line in lines if not line.startswith("@package"))


def shortened(path: Path) -> str:
    """A path as it is written from the root of the tree."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def costs(recipe: Recipe, slot: str) -> dict[str, str]:
    """What the decoder of a recipe costs, and the part of a slot in it; for slots that shape a decoder."""
    made, context = sketch(recipe, VOCAB), recipe.settings.model.context
    named = dict(made.named_parameters())
    found = {"parameters": f"{sum(p.numel() for p in named.values()):,}"}
    if slot in PARTS:
        contract: Any = getattr(import_module(find_slot_package(slot)), slot.capitalize())
        parts = tuple(f"{name}." for name, module in made.named_modules() if isinstance(module, contract))
        found[f"of {slot}"] = f"{sum(p.numel() for name, p in named.items() if name.startswith(parts)):,}"
    found["FLOPs/token, forward"] = f"{made.flops(context) / context:,.0f}"
    held = sum(memory.nbytes for memory in made.new_cache(1, context) if memory is not None)
    return {**found, "cache bytes/token": f"{held / context:,.0f}"}


def compared(slot: str, choice: str, overrides: list[str], compose: Compose) -> dict[str, dict[str, str]]:
    """The costs of a choice and of its slot's default, by name; none for slots that shape no decoder."""
    if slot not in (*PARTS, "model", "experiment"):
        return {}
    plain, asked = compose(overrides), compose([f"{slot}={choice}", *overrides])
    default = plain.choices.get(slot)
    names = [choice] if choice == default else [choice, f"{default}, the default" if default else "the defaults"]
    found = {}
    for name, recipe in zip(names, (asked, plain), strict=False):
        wrong = check_settings(recipe.config)
        wrong = wrong or [line for part in PARTS for line in check_node(recipe.config[part], part)]
        if wrong:
            raise Refused("\nerror: ".join(wrong))
        found[name] = costs(recipe, slot)
    return found


# -- on the terminal


def show(asked: str, overrides: list[str], compose: Compose) -> None:
    """Prints a slot's choices in a line each, or all about slot=choice."""
    from rich.console import Console

    console = Console(highlight=False)
    slot, _, choice = asked.partition("=")
    refuse_unknown(slot, choice)
    if not choice:
        wide = max(map(len, options(slot)))
        for name in options(slot):
            console.print(f"{name:<{wide}}  {gist(slot, name)}", markup=False, soft_wrap=True)
        return
    named = [f"{slot}=[{choice}]" if slot in LISTS else asked]
    found = card(compose([*named, *overrides] if taken(compose([]), slot) else overrides), slot, choice)
    console.print(asked, style="bold", end="   ")
    console.print(", ".join(found.files), style="dim", soft_wrap=True)
    for text in filter(None, [*found.said, found.knobs]):
        console.print(f"\n{text}", markup=False, soft_wrap=True)
    if columns := compared(slot, choice, overrides, compose):
        console.print(tabled(columns, compose([asked, *overrides])))


def tabled(columns: dict[str, dict[str, str]], recipe: Recipe) -> Any:
    """Costs, a choice a column."""
    from rich.table import Table

    model = recipe.settings.model
    size = f"{model.layers} layers x {model.width} wide, context {model.context}, {VOCAB} tokens"
    table = Table(box=None, header_style="bold", pad_edge=False, title=f"\nat {size}", title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for what in next(iter(columns.values())):
        table.add_row(what, *(column[what] for column in columns.values()))
    return table
