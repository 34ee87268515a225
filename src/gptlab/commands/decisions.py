"""The command `decisions`: in how many decisions does a small size have the sign of a larger one?"""

from pathlib import Path
from typing import Annotated

import typer

from gptlab.console.json_answer import add_to_answer
from gptlab.errors import Refused


def decisions(
    studies: Annotated[
        list[Path], typer.Argument(help="Folders of ladder studies, or files of losses that --data wrote.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="A JSON file for the losses, from which this can be repeated.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="A Markdown file for the tables.")] = None,
) -> None:
    """Tell how often a small size decided as a larger one does, by arm, with intervals, from the runs of ladders."""
    from rich.console import Console

    from gptlab.report.decisions import read_ladders, to_document
    from gptlab.report.render.decisions import answer_with_decisions, print_decisions, render_decisions
    from gptlab.runs.record import to_json, write_atomically
    from gptlab.stats.ladder.decision_accuracy import compare_all_sizes

    ladders = read_ladders(studies)
    pairs = compare_all_sizes(ladders)
    if not pairs:
        names = ", ".join(ladder.study for ladder in ladders)
        raise Refused(f"{names}: no arm has two seeds in common with its baseline at two sizes; say seeds=2 or more")
    console = Console(highlight=False)
    if not console.is_terminal:
        # a pipe has no width, and rich would break the lines at 80
        console.width = 140
    print_decisions(pairs, console)
    for path, text in ((data, to_json(to_document(ladders), indent=1)), (to, render_decisions(pairs))):
        if path is not None:
            write_atomically(path, text.rstrip() + "\n")
            print(path)
    add_to_answer(pairs=answer_with_decisions(pairs))
