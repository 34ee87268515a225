"""The commands of a campaign, for `python -m gptlab`."""

from pathlib import Path
from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The NAME of its studies' campaign=NAME.")]
Outputs = Annotated[Path, typer.Option(help="Where runs, studies and campaigns live.")]


def add_commands(app: typer.Typer) -> None:
    """Add `campaign` and `confirm`."""
    app.command()(campaign)
    app.command()(confirm)


def campaign(name: Name, outputs: Outputs = Path("outputs")) -> None:
    """Show a campaign: the questions asked on one baseline, the alpha they spent, the ladder of accepted changes."""
    # late: python -m gptlab --help imports this module, and should stay quick
    from rich.console import Console

    from gptlab.ablation.protocol.campaign_state import print_campaign
    from gptlab.runs.campaign_folder import CampaignFolder

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    print_campaign(CampaignFolder(outputs, name), console)


def confirm(
    name: Name,
    outputs: Outputs = Path("outputs"),
    seeds: Annotated[
        int | None, typer.Option(min=2, max=1000, help="Fresh seeds, which chose nothing; 5 without it.")
    ] = None,
) -> None:
    """Judge a campaign's accepted changes on fresh seeds and on the part of the text that was held back: once."""
    from gptlab.ablation.protocol.confirm import confirm_campaign
    from gptlab.runs.campaign_folder import CampaignFolder

    study = confirm_campaign(CampaignFolder(outputs, name), seeds)
    raise typer.Exit((study.answer or {}).get("exit", 0))
