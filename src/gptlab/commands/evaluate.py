"""The command `evaluate`: a run on downstream tasks, by lm-evaluation-harness or from local files."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gptlab.commands.unfinished import announce_weights, read_weights_step
from gptlab.console.json_answer import add_to_answer
from gptlab.errors import Refused

FILE = "downstream.json"
"""What the command writes into a run's folder."""


class Checkpoint(StrEnum):
    """A run's checkpoints."""

    last = "last"
    best = "best"


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    tasks: Annotated[str, typer.Option(help="Of lm-evaluation-harness, by comma: arc_easy,hellaswag.")] = "",
    include_path: Annotated[Path | None, typer.Option(help="A folder of YAMLs of tasks of your own.")] = None,
    pairs: Annotated[list[str] | None, typer.Option(help="Minimal pairs: JSON lines as BLiMP's.")] = None,
    questions: Annotated[list[str] | None, typer.Option(help="JSON lines of question, choices, answer.")] = None,
    shots: Annotated[int | None, typer.Option(min=0, help="Examples before a question of --tasks.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Documents of each of --tasks at most.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts read at once at most.")] = 64,
    which: Annotated[Checkpoint, typer.Option(help="Weights at the end, or the best on the way.")] = Checkpoint.last,
) -> None:
    """Score a run on downstream tasks; the numbers go into downstream.json in its folder."""
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not (names or pairs or questions):
        raise Refused("evaluate scores nothing; give --tasks arc_easy, --pairs FILE or --questions FILE")
    _refuse_bad_options(names, include_path, shots, limit)
    # late: torch takes seconds, and a refusal needs none
    import torch

    from gptlab.commands.evaluation import harness, local_files
    from gptlab.training.restore import load_run

    announce_weights(run, which.value)
    decoder, tokenizer = load_run(run, which.value)
    decoder = decoder.to("cuda" if torch.cuda.is_available() else "cpu")
    scored: dict[str, Any] = {}
    # quick ones first: their files are refused before the harness begins
    if pairs:
        scored |= local_files.evaluate_pairs(decoder, tokenizer, pairs, batch_size)
    if questions:
        scored |= local_files.evaluate_questions(decoder, tokenizer, questions, batch_size)
    lost: list[int] = []
    if names:
        knobs = {"include_path": include_path, "max_rows": batch_size, "shots": shots, "limit": limit}
        results = harness.evaluate_tasks(decoder, tokenizer, names, **knobs)
        scored |= harness.list_values(results)
        lost = results["lost"]
    _save(run, which.value, scored)
    _print(scored)
    if lost:
        print(
            f"{len(lost):,} texts lost their beginning, {max(lost):,} tokens at most, to fit a context of "
            f"{decoder.shape.context}"
        )
    print(run / FILE)
    add_to_answer(run=run, file=run / FILE, tasks=scored, cut_texts=len(lost))


def _refuse_bad_options(names: list[str], include_path: Path | None, shots: int | None, limit: int | None) -> None:
    """Refuse options of --tasks without it, a missing folder or library, and tasks without a YAML, before torch."""
    given = {"--include-path": include_path, "--shots": shots, "--limit": limit}
    for option, value in given.items():
        if value is not None and not names:
            raise Refused(f"{option}={value} is of lm-evaluation-harness's tasks; name some: --tasks arc_easy")
    if include_path is not None and not include_path.is_dir():
        raise Refused(f"--include-path={include_path} is no folder here; give one of YAMLs of tasks")
    if names:
        from gptlab.commands.evaluation.harness import refuse_missing_harness, refuse_unknown_tasks

        refuse_missing_harness()
        refuse_unknown_tasks(names, include_path)


def _save(run: Path, which: str, scored: dict[str, Any]) -> None:
    """Write the scores into downstream.json, beside those of other tasks and of the other checkpoint."""
    from gptlab.runs.record import read_json, to_json, utc_now, write_atomically

    path = run / FILE
    content = read_json(path) if path.exists() else {}
    # the weights of an unfinished run are others tomorrow
    stamp = {"time": utc_now(), "step": read_weights_step(run, which)}
    stamped = {name: {**entry, **stamp} for name, entry in scored.items()}
    content[which] = {**content.get(which, {}), **stamped}
    write_atomically(path, to_json(content, indent=2))


def _print(scored: dict[str, Any]) -> None:
    """Print a table, a metric a line."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("task", overflow="fold")
    table.add_column("metric", no_wrap=True)
    for name in ("value", "± s.e.", "documents"):
        table.add_column(name, justify="right", no_wrap=True)
    for task, entry in scored.items():
        for metric, number in entry["metrics"].items():
            arrow = {"higher": "↑", "lower": "↓"}[number["better"]]
            error = f"{number['error']:.4f}" if number["error"] is not None else ""
            table.add_row(task, f"{metric} {arrow}", f"{number['value']:.4f}", error, f"{entry['documents'] or ''}")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140  # a pipe has no width
    console.print(table)
