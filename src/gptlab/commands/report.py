"""The commands `report` and `sync`: a study or a run as a page, and in W&B."""

from pathlib import Path
from typing import Annotated

import typer

from gptlab.commands.unfinished import announce_unfinished
from gptlab.console.json_answer import add_to_answer
from gptlab.errors import Refused


def report(
    folder: Annotated[Path, typer.Argument(help="A study's folder, or a run's.")],
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    push: Annotated[bool, typer.Option("--push", help="Save a study's in W&B too.")] = False,
) -> None:
    """Make the page of a study or of a run, report.html, and outputs/index.html; push updates a report in W&B."""
    from gptlab.report import publish
    from gptlab.report.measurement_folder import is_measurement_folder

    if push and is_measurement_folder(folder):
        raise Refused(f"{folder} trained nothing, so there are no runs in W&B to report on; say report without --push")
    if push:
        publish.read_tracking(folder)  # refuses what is no study
    path = publish.rebuild_page(folder, lambda line: typer.echo(line, err=True))
    print(path)
    add_to_answer(page=path)
    announce_unfinished([folder])
    if push:
        print(address := publish.push_report(folder))
        add_to_answer(address=address)
    if open_it:
        typer.launch(path.absolute().as_uri())


def sync(study: Annotated[Path, typer.Argument(help="A study's folder.")]) -> None:
    """Upload a study's offline runs to W&B, then save its report there; safe to repeat."""
    from gptlab.report import publish

    uploaded: list[str] = []
    for run in publish.upload_offline_runs(study):
        print(f"uploaded {run.name}")
        uploaded.append(run.name)
    print(address := publish.push_report(study))
    add_to_answer(uploaded=uploaded, address=address)
