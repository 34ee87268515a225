"""The command `card`: a study on one page of Markdown."""

from pathlib import Path
from typing import Annotated

import typer

from gptlab.console.json_answer import add_to_answer
from gptlab.errors import Refused
from gptlab.runs.record import write_atomically


def card(
    study: Annotated[Path, typer.Argument(help="A study's folder: outputs/ablations/<name>.")],
    to: Annotated[Path | None, typer.Option(help="A file to write; without one, it is printed.")] = None,
    png: Annotated[bool, typer.Option("--png", help="A picture: report.png in its folder, or --to.")] = False,
) -> None:
    """Print a study on one page of Markdown, for a pull request or an issue: gptlab card STUDY | gh pr comment -F -."""
    # late: the list of commands needs no report
    from gptlab.commands.unfinished import announce_unfinished
    from gptlab.report.card import render_card
    from gptlab.report.findings import compare_study_folder
    from gptlab.report.measurement_folder import is_measurement_folder
    from gptlab.report.study import build_study_report
    from gptlab.runs.study_folder import StudyFolder

    if is_measurement_folder(study):
        raise Refused(f"{study} trained nothing, so it has no verdicts for a card; its {study}/report.md is a page")
    if not (study / "study.json").exists():
        raise Refused(f"{study} is no study: it holds no study.json; studies live in outputs/ablations")
    announce_unfinished([study])
    if png:
        from gptlab.report.render.card_image import IMAGE_NAME, save_card_image

        picture = to or study / IMAGE_NAME
        save_card_image(compare_study_folder(study), picture)
        print(picture)
        add_to_answer(picture=picture)
        return
    page = render_card(build_study_report(compare_study_folder(study), StudyFolder(study).pool))
    if to is not None:
        write = write_atomically if to.is_file() or not to.exists() else Path.write_text  # /dev/stdout is no file
        write(to, page)
    print(page if to is None else to, end="\n" if to else "")
    add_to_answer(card=page)
