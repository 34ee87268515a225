"""The search command: files in, the ranked table on the terminal, and a folder that a run can start from."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from rich.console import Console
from rich.table import Table

from gptlab.commands.search.guesses import Guess, ScoredGuess, Search, choose_winner
from gptlab.commands.search.outline import Outline
from gptlab.config.factory import check_node
from gptlab.config.recipe import PARTS, Recipe, check_settings
from gptlab.config.typecheck import format_value
from gptlab.errors import Refused
from gptlab.weights.pretrained import files, mapped
from gptlab.weights.pretrained.mapping import parse_mapping

if TYPE_CHECKING:
    from torch import Tensor

LINES = 10
"""Guesses that are shown."""


def solve_checkpoint(
    place: Path,
    words: list[str],
    mapping: Path,
    examples: Path,
    known: list[str],
    compose: Callable[[list[str]], Recipe],
    console: Console,
) -> tuple[Search, Guess]:
    """Return the search and its winner; print the ranked table whether or not there is one.

    `words`: overrides of train.py, the guess to begin with.
    """
    for path, option in ((place, ""), (mapping, "--mapping="), (examples, "--examples=")):
        if not path.exists():  # the first of them first
            raise Refused(
                f"{option}{path} is not there; give a file that is{'' if option else ', or a folder with one'}"
            )
    parsed = parse_mapping(files.read_object(mapping))
    source = files.read_tensors(place)
    inputs, outputs = load_examples(examples)
    outline = Outline(parsed, {name: tuple(tensor.shape) for name, tensor in source.items()})
    recipe = compose(first_overrides(outline, words, inputs.shape[1]))
    problems = [*check_settings(recipe.config)]
    for slot in PARTS:
        problems += check_node(recipe.config[slot], slot)
    if problems:
        raise Refused("\nerror: ".join(problems))
    check_examples(inputs, outputs, outline.vocab, recipe.settings.model.context)
    search = Search(recipe, parsed, source, inputs=inputs, outputs=outputs, known=tuple(known))
    ranked = search.rank_guesses()
    # the table first: where no guess wins, it is what shows why
    print_guesses(search, ranked, console)
    return search, choose_winner(ranked, outputs.abs().max().item())


def load_examples(path: Path) -> "tuple[Tensor, Tensor]":
    """Return inputs (N, T) and outputs (N, T, vocab) of a file."""
    tensors = files.read_tensors(path)
    kinds = {name: (one.is_floating_point(), one.dim()) for name, one in tensors.items()}
    if kinds != {"inputs": (False, 2), "outputs": (True, 3)}:
        wanted = "inputs (N, T), whole numbers, and outputs (N, T, vocab), floats"
        raise Refused(f"--examples {path} holds {', '.join(tensors)}; it must hold {wanted}")
    # float64 is kept, as it alone tells epsilons apart; half types are not computed in
    outputs = tensors["outputs"]
    return tensors["inputs"].long(), outputs if outputs.dtype.itemsize == 8 else outputs.float()


def check_examples(inputs: "Tensor", outputs: "Tensor", vocab: int, context: int) -> None:
    """Refuse examples that are of another model."""
    if outputs.shape != (*inputs.shape, vocab):
        raise Refused(f"--examples: outputs {tuple(outputs.shape)} are not (N, T, vocab) = {(*inputs.shape, vocab)}")
    if inputs.min() < 0 or inputs.max() >= vocab:
        raise Refused(f"--examples: inputs from {inputs.min()} to {inputs.max()} are no tokens of {vocab}")
    if inputs.shape[1] > context:
        raise Refused(f"--examples: {inputs.shape[1]} tokens are more than the context of {context}")


def split_overrides(words: list[str]) -> dict[str, str]:
    """Return the values of overrides by their keys."""
    values = {}
    for word in words:
        key, _, value = word.partition("=")
        values[key] = value
    return values


def first_overrides(outline: Outline, words: list[str], longest: int) -> list[str]:
    """Return the overrides to begin with: what shapes say, where the command line does not."""
    given = split_overrides(words)
    heads = outline.possible_heads()
    first = given.get("model.heads", str(heads[0]))
    if first not in map(str, heads):
        fitting = ", ".join(map(str, sorted(heads)))
        widths = f"{outline.queries} features of queries, {outline.keys} of keys"
        raise Refused(f"model.heads={first} does not fit {widths}; try {fitting}")
    knobs = outline.make_knobs(int(first), longest)
    return [
        # bare, as one would type it
        *(f"{key}={format_value(value).strip(chr(39))}" for key, value in knobs.items() if key not in given),
        *words,
    ]


def print_guesses(search: Search, ranked: list[ScoredGuess], console: Console) -> None:
    """Print the nearest guesses by what was searched, and how far the first one was."""
    axes = [name for name, values in search.axes.items() if len(values) > 1]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in (*axes, "max |diff|", "rmse / std"):
        table.add_column(name, justify="right", no_wrap=True)
    for scored in ranked[:LINES]:
        table.add_row(
            *(_format_cell(getattr(scored.guess, name)) for name in axes),
            f"{scored.distance:.2e}",
            f"{scored.rmse:.1e}",
        )
    console.print(table)
    first_score = search.score_guess(search.first)
    first = f"{first_score.distance:.2e} away" if first_score else "none that fits"
    dtype = str(search.outputs.dtype).removeprefix("torch.")
    console.print(f"{len(ranked)} guesses in {dtype}, the one to begin with {first}")


def _format_cell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def write_checkpoint(search: Search, best: Guess, words: list[str], folder: Path) -> None:
    """Write a folder for pretrained=mapped: the weights as they were, the completed mapping, the decoder."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    given = {key: yaml.safe_load(value) for key, value in split_overrides(words).items()}
    # the later wins: what the examples decided, over what was typed, over what shapes say
    knobs = {**search.outline.make_knobs(best.heads, search.inputs.shape[1]), **given, **search.make_overrides(best)}
    save_file({name: tensor.contiguous() for name, tensor in search.source.items()}, folder / "model.safetensors")
    mapped.write_mapping(folder, search.solve_mapping(best), {"vocab": search.outline.vocab, "knobs": knobs})
