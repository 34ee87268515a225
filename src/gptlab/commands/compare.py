"""compare and judge: runs side by side, by seed, and their verdicts alone."""

from pathlib import Path
from typing import Annotated

import typer

from gptlab.console.json_answer import add_to_answer
from gptlab.errors import Refused


def compare(
    folders: Annotated[list[Path], typer.Argument(help="A study, or run folders of any origin.")],
    to: Annotated[Path | None, typer.Option(help="Where to write the tables of runs; a study's stay in it.")] = None,
    baseline: Annotated[str | None, typer.Option(help="The arm that the others are compared with.")] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="All pairs, not only with the baseline.")] = False,
) -> None:
    """Compare the runs of a study once more, or runs that no study made: by seed, with intervals and verdicts."""
    from rich.console import Console

    from gptlab.commands.unfinished import announce_unfinished
    from gptlab.report import measurement_folder
    from gptlab.report.findings import compare_folders, find_pool
    from gptlab.report.publish import write_pages
    from gptlab.report.render.answer import answer_with_findings
    from gptlab.report.render.files import write_files
    from gptlab.report.render.terminal import print_study
    from gptlab.runs import diff as differing

    console = Console(highlight=False)
    if not console.is_terminal:
        # a pipe has no width, and rich would break the lines at 80
        console.width = 140
    if len(folders) == 1 and measurement_folder.is_measurement_folder(folders[0]):
        measurement_folder.report_measurements(folders[0], console)
        announce_unfinished(folders)
        return
    findings = compare_folders(folders, baseline, pairs)
    print_study(findings, console)
    differing.print_differences(folders, console)
    # a study's files are made anew in its folder, but never with another question's answer; others where asked
    is_study = len(folders) == 1 and (folders[0] / "study.json").exists() and not (baseline or pairs)
    into = to or (folders[0] if is_study else None)
    if into is not None:
        into.mkdir(parents=True, exist_ok=True)
        write_files(findings, into)
        write_pages(findings, into, find_pool(folders))
        print(into)
    add_to_answer(**answer_with_findings(findings))
    announce_unfinished(folders)


def judge(
    folders: Annotated[list[Path], typer.Argument(help="A study, or run folders of any origin, two arms or more.")],
    baseline: Annotated[str | None, typer.Option(help="The arm that the others are compared with.")] = None,
) -> None:
    """Print the verdicts alone, a line each, and end with what they are: 0 decided, 3 not resolved, 4 unstable."""
    from gptlab.commands.unfinished import announce_unfinished
    from gptlab.report.findings import compare_folders
    from gptlab.report.render.answer import DECIDED, answer_with_findings, choose_status

    findings = compare_folders(folders, baseline)
    answer = answer_with_findings(findings)
    # status 0 would tell a program that a question was decided which nobody asked
    if not answer["verdicts"] and choose_status(findings) == DECIDED:
        raise Refused(f"{' '.join(map(str, folders))}: one arm, so there is nothing to judge; give runs of two arms")
    for verdict in answer["verdicts"]:
        # several sizes, and fresh seeds, have a verdict each on one arm
        size = f"{verdict['size']}: " if verdict["size"] else ""
        fresh = " on fresh seeds" if verdict["confirmed"] else ""
        print(f"{size}{verdict['arm']} against {verdict['against']}{fresh}: {verdict['label']}")
    add_to_answer(**answer)
    announce_unfinished(folders)
    raise typer.Exit(choose_status(findings))
