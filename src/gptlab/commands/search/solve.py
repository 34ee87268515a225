"""A search as it is asked for: files in, the ranked table on the terminal, and a folder that a run can start from."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from rich.console import Console
from rich.table import Table

from gptlab.commands.search.guesses import Guess, Scored, Search, winner
from gptlab.commands.search.outline import Outline
from gptlab.config.factory import check_node
from gptlab.config.recipe import PARTS, Recipe, check_settings
from gptlab.config.typecheck import shown
from gptlab.errors import Refused
from gptlab.weights.pretrained import files, mapped
from gptlab.weights.pretrained.mapping import parse

if TYPE_CHECKING:
    from torch import Tensor

LINES = 10
"""Guesses that are shown."""


def solve(
    place: Path,
    words: list[str],
    mapping: Path,
    examples: Path,
    known: list[str],
    compose: Callable[[list[str]], Recipe],
    console: Console,
) -> tuple[Search, Guess]:
    """The search and its winner; the ranked table is shown whether or not there is one. `words`: overrides of train.py,
    the guess to begin with."""
    parsed = parse(files.read_object(mapping))
    source = files.tensors(place)
    inputs, outputs = told(examples)
    outline = Outline(parsed, {name: tuple(one.shape) for name, one in source.items()})
    recipe = compose(guess(outline, words, inputs.shape[1]))
    if wrong := [
        *check_settings(recipe.config),
        *(one for slot in PARTS for one in check_node(recipe.config[slot], slot)),
    ]:
        raise Refused("\nerror: ".join(wrong))
    fits(inputs, outputs, outline.vocab, recipe.settings.model.context)
    search = Search(recipe, parsed, source, inputs, outputs, tuple(known))
    ranked = search.ranked()
    show(search, ranked, console)
    return search, winner(ranked, outputs.abs().max().item())


def told(path: Path) -> "tuple[Tensor, Tensor]":
    """inputs (N, T) and outputs (N, T, vocab) of a file."""
    found = files.tensors(path)
    kinds = {name: (one.is_floating_point(), one.dim()) for name, one in found.items()}
    if kinds != {"inputs": (False, 2), "outputs": (True, 3)}:
        wanted = "inputs (N, T), whole numbers, and outputs (N, T, vocab), floats"
        raise Refused(f"--examples {path} holds {', '.join(found)}; it must hold {wanted}")
    outputs = found["outputs"]
    return found["inputs"].long(), outputs if outputs.dtype.itemsize == 8 else outputs.float()


def fits(inputs: "Tensor", outputs: "Tensor", vocab: int, context: int) -> None:
    """Refuses examples that are of another model."""
    if outputs.shape != (*inputs.shape, vocab):
        raise Refused(f"--examples: outputs {tuple(outputs.shape)} are not (N, T, vocab) = {(*inputs.shape, vocab)}")
    if inputs.min() < 0 or inputs.max() >= vocab:
        raise Refused(f"--examples: inputs from {inputs.min()} to {inputs.max()} are no tokens of {vocab}")
    if inputs.shape[1] > context:
        raise Refused(f"--examples: {inputs.shape[1]} tokens are more than the context of {context}")


def guess(outline: Outline, words: list[str], longest: int) -> list[str]:
    """The overrides to begin with: what shapes say, where the command line does not."""
    given = {key: value for key, _, value in (word.partition("=") for word in words)}
    heads = outline.heads()
    first = given.get("model.heads", str(heads[0]))
    if first not in map(str, heads):
        fitting = ", ".join(map(str, sorted(heads)))
        widths = f"{outline.queries} features of queries, {outline.keys} of keys"
        raise Refused(f"model.heads={first} does not fit {widths}; try {fitting}")
    knobs = outline.knobs(int(first), longest)
    return [*(f"{key}={shown(value).strip(chr(39))}" for key, value in knobs.items() if key not in given), *words]


def show(search: Search, ranked: list[Scored], console: Console) -> None:
    """The nearest guesses by what was searched, and how far the first one was."""
    axes = [name for name, values in search.axes.items() if len(values) > 1]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in (*axes, "max |diff|", "rmse / std"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in ranked[:LINES]:
        table.add_row(*(_cell(getattr(one.guess, name)) for name in axes), f"{one.far:.2e}", f"{one.rmse:.1e}")
    console.print(table)
    begun = search.score(search.first)
    first = f"{begun.far:.2e} away" if begun else "none that fits"
    dtype = str(search.outputs.dtype).removeprefix("torch.")
    console.print(f"{len(ranked)} guesses in {dtype}, the one to begin with {first}")


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def write(search: Search, best: Guess, words: list[str], folder: Path) -> None:
    """A folder for pretrained=mapped: the weights as they were, the mapping with nothing left open, the decoder."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    given = {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in words)}
    knobs = {**search.outline.knobs(best.heads, search.inputs.shape[1]), **given, **search.overrides(best)}
    save_file({name: one.contiguous() for name, one in search.source.items()}, folder / "model.safetensors")
    mapped.write(folder, search.solved(best), {"vocab": search.outline.vocab, "knobs": knobs})
