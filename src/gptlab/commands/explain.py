"""Explain a choice from its files, and what it costs, counted on a decoder without memory."""

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

from gptlab.config.factory import check_node, find_slot_package, locate
from gptlab.config.menu import CONF, find_yaml, list_choices
from gptlab.config.recipe import LISTS, PARTS, Recipe, check_settings
from gptlab.config.variant_packages import list_variant_packages
from gptlab.console.json_answer import add_to_answer
from gptlab.errors import Refused
from gptlab.runs.fingerprint import find_source, parse_source
from gptlab.training.build import build_on_meta

ROOT = CONF.parent
VOCAB = 65
"""Characters of Tiny Shakespeare: the vocabulary at which costs are counted."""
NOT_KNOBS = ("_target_", "_partial_", "# @package", "defaults:")
"""Lines of a YAML that are no knobs."""

Compose = Callable[[list[str]], Recipe]


@dataclass(frozen=True)
class ChoiceDescription:
    """A choice's files relative to the tree, the texts of its code and its YAML, and its knobs.

    knobs  lines of the YAML, each with what its class says of the knob below it
    """

    files: list[str]
    texts: list[str]
    knobs: str


def list_slots() -> list[str]:
    """Return every folder of choices."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")


def refuse_unknown(slot: str, choice: str) -> None:
    """Refuse a slot or a choice that does not exist; the choice may be empty."""
    if slot not in list_slots():
        if holders := [one for one in list_slots() if not choice and slot in list_choices(one)]:
            raise Refused(f"{slot}: no such slot; say {' or '.join(f'{one}={slot}' for one in holders)}")
        train = find_yaml("", "train").read_text(encoding="utf-8")
        if not choice and ("." in slot or re.search(rf"^{re.escape(slot)}:", train, re.M)):
            raise Refused(f"{slot} is a knob or a setting, no slot; python -m gptlab slots {slot} lists what has it")
        near = difflib.get_close_matches(slot, list_slots(), 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(list_slots())}"
        raise Refused(f"{slot or repr('')}: no such slot; {hint}")
    if choice and choice not in list_choices(slot):
        raise Refused(f"{slot}={choice}: no such option; choose from {', '.join(list_choices(slot))}")


def summarize_choice(slot: str, choice: str) -> str:
    """Return a choice in a line, from its files alone.

    It is the first line of its YAML's comment, else the line of its module's head that names it, else the head's first
    sentence.
    """
    text = find_yaml(slot, choice).read_text(encoding="utf-8")
    if remark := read_head_comment(text):
        return remark.splitlines()[0]
    target = re.search(r"^_target_: (\S+)\.", text, re.M)
    code = find_source(target[1]) if target else None
    if code is None:
        return ", ".join(line for line in text.splitlines() if ":" in line)
    docstring = ast.get_docstring(parse_source(code)) or ""
    # a module of several choices has a list of them in its head, two blanks behind each name
    line_of_choice = re.search(rf"^{choice}  +(.*)$", docstring, re.M)
    return (
        re.sub(r"  +", ", ", line_of_choice[1]) if line_of_choice else docstring.partition("\n\n")[0].replace("\n", " ")
    )


def is_chosen_by_runs(recipe: Recipe, slot: str) -> bool:
    """Whether a run chooses of a slot by itself. A format it chooses within another."""
    return slot in LISTS or slot in recipe.choices


def describe_choice(recipe: Recipe, slot: str, choice: str) -> ChoiceDescription:
    """Return the files, the head and the knobs of a recipe's choice."""
    file = find_yaml(slot, choice)
    text = file.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith((*NOT_KNOBS, "#", "  - "))]
    node = recipe.config.get(slot) or {} if is_chosen_by_runs(recipe, slot) else yaml.safe_load(text)
    # a list slot holds its choices by name
    node = node[choice] if slot in LISTS else node
    if not isinstance(node, dict) or "_target_" not in node:  # sizes, tracking, recipes: YAML alone
        return ChoiceDescription([relative_to_root(file)], [read_head_comment(text)], "\n".join(lines))
    target = locate(node["_target_"], slot)
    module = sys.modules[target.__module__]
    # a choice may be made of a class of another slot, whose head says nothing of it
    package = (f"{find_slot_package(slot)}.", *(f"{registered.name}." for registered in list_variant_packages()))
    head = module.__doc__ if target.__module__.startswith(package) else ""  # a pattern lies elsewhere
    about, meanings = split_knob_list(inspect.cleandoc(target.__doc__ or ""), find_knobs(lines))
    texts = [inspect.cleandoc(part) for part in (head, about, read_head_comment(text)) if part]
    return ChoiceDescription(
        [relative_to_root(Path(inspect.getsourcefile(target) or "")), relative_to_root(file)],
        texts,
        "\n".join(add_meanings(lines, meanings)),
    )


def find_knobs(lines: list[str]) -> list[str]:
    """Return the keys of a YAML's lines."""
    return [line.partition(":")[0] for line in lines if re.match(r"\w+:", line)]


def split_knob_list(docstring: str, knobs: list[str]) -> tuple[str, dict[str, str]]:
    """Return a docstring without its list of knobs, and what the list says of each.

    A line of the list is a knob, or several with commas between, two blanks and a meaning; it goes on where the next
    line is indented.
    """
    rest: list[str] = []
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in docstring.splitlines():
        entry = re.match(r"(\w+(?:, \w+)*)  +(\S.*)", line)
        # a paragraph may have two blanks in it: only the names of knobs make an entry
        if entry and {*entry[1].split(", ")} <= {*knobs}:
            names = entry[1].split(", ")
            meanings |= dict.fromkeys(names, entry[2])
        elif names and line.startswith(" "):
            meanings |= {name: f"{meanings[name]} {line.strip()}" for name in names}
        else:
            names = []
            rest.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(rest)).strip(), meanings


def add_meanings(lines: list[str], meanings: dict[str, str]) -> list[str]:
    """Return the lines of a YAML with the meaning of each knob below its line."""
    table = []
    for line in lines:
        table.append(line)
        if meaning := meanings.get(line.partition(":")[0]):
            table.append(f"    {meaning}")
    return table


def read_head_comment(text: str) -> str:
    """Return the comment at the head of a YAML."""
    head = re.match(r"(?:#.*\n)*", text)
    lines = [line.removeprefix("#").strip() for line in head[0].splitlines()] if head else []
    return "\n".join(line for line in lines if not line.startswith("@package"))


def relative_to_root(path: Path) -> str:
    """Return a path as it is written from the root of the tree."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def describe_costs(recipe: Recipe, slot: str) -> dict[str, float]:
    """Return the costs of a recipe's decoder, and a slot's part in them, for slots that shape a decoder."""
    from gptlab.model.costs import count_costs, count_forward_flops  # late: it imports torch

    decoder, context = build_on_meta(recipe, VOCAB), recipe.settings.model.context
    counts = count_costs(decoder)
    costs: dict[str, float] = {"parameters": counts.params, "of them active": counts.params_active}
    if slot in PARTS:
        contract: Any = getattr(import_module(find_slot_package(slot)), slot.capitalize())
        # by the contract, so that parts are found wherever a block or a pattern holds them
        prefixes = tuple(f"{name}." for name, module in decoder.named_modules() if isinstance(module, contract))
        # layers that predict ahead in training, which the readout asks for
        prefixes = ("ahead.",) if slot == "readout" and len(decoder.ahead) else prefixes
        prefixes = (*prefixes, "embedding.") if slot == "embedding" else prefixes  # the table is the decoder's
        costs[f"of {slot}"] = sum(p.numel() for name, p in decoder.named_parameters() if name.startswith(prefixes))
    costs["FLOPs/token, forward"] = count_forward_flops(decoder, context) / context
    costs["cache bytes/token"] = counts.cache_bytes_per_token
    return costs


def compare_costs(slot: str, choice: str, overrides: list[str], compose: Compose) -> dict[str, dict[str, float]]:
    """Return the costs of a choice and of its slot's default, by name; empty for slots that shape no decoder."""
    if slot not in (*PARTS, "model", "experiment"):
        return {}
    default_recipe, chosen = compose(overrides), compose([f"{slot}={choice}", *overrides])
    default = default_recipe.choices.get(slot)
    # side by side with the default of the slot: a cost by itself says little
    names = [choice] if choice == default else [choice, f"{default}, the default" if default else "the defaults"]
    columns = {}
    # one name alone where the choice is the default
    for name, recipe in zip(names, (chosen, default_recipe), strict=False):
        problems = check_settings(recipe.config)
        problems = problems or [line for part in PARTS for line in check_node(recipe.config[part], part)]
        if problems:
            raise Refused("\nerror: ".join(problems))
        columns[name] = describe_costs(recipe, slot)
    return columns


# -- on the terminal


def print_explanation(choice_word: str, overrides: list[str], compose: Compose) -> None:
    """Print a slot's choices in a line each, or all about slot=choice."""
    from rich.console import Console

    from gptlab.commands.slots import describe_slot_choice  # late: it reads what this module says of choices

    console = Console(highlight=False)
    slot, _, choice = choice_word.partition("=")
    refuse_unknown(slot, choice)
    if not choice:
        summaries = {name: summarize_choice(slot, name) for name in list_choices(slot)}
        wide = max(map(len, summaries))
        for name, summary in summaries.items():
            console.print(f"{name:<{wide}}  {summary}", markup=False, soft_wrap=True)
        add_to_answer(slot=slot, choices=summaries)
        return
    words = [*overrides]
    if is_chosen_by_runs(compose([]), slot):
        words.insert(0, f"{slot}=[{choice}]" if slot in LISTS else choice_word)
    description = describe_choice(compose(words), slot, choice)
    console.print(choice_word, style="bold", end="   ")
    console.print(", ".join(description.files), style="dim", soft_wrap=True)
    for text in filter(None, [*description.texts, description.knobs]):
        console.print(f"\n{text}", markup=False, soft_wrap=True)
    columns = compare_costs(slot, choice, overrides, compose)
    add_to_answer(
        slot=slot,
        choice=choice,
        files=description.files,
        text="\n\n".join(filter(None, description.texts)),
        knobs=describe_slot_choice(slot, choice)["knobs"],
        costs=columns,
    )
    if columns:
        console.print(make_cost_table(columns, compose([choice_word, *overrides])))


def make_cost_table(columns: dict[str, dict[str, float]], recipe: Recipe) -> Any:
    """Return a table of costs, a choice a column."""
    from rich.table import Table

    model = recipe.settings.model
    size = f"{model.layers} layers x {model.width} wide, context {model.context}, vocab {VOCAB}"
    table = Table(box=None, header_style="bold", pad_edge=False, title=f"\nat {size}", title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for quantity in next(iter(columns.values())):
        table.add_row(quantity, *(f"{column[quantity]:,.0f}" for column in columns.values()))
    return table
