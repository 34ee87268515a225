"""The report's section on a ladder of sizes."""

from gptlab.report.figures.ladder import draw_gains, draw_power_laws, draw_transfer
from gptlab.report.model import Item, Table, Words
from gptlab.report.text.ladder import build_ladder_columns, describe_ladder
from gptlab.report.text.view import MARKS_FOOT
from gptlab.stats.ladder.findings import LadderFindings
from gptlab.stats.results import Stratum


def build_ladder_items(ladder: LadderFindings | None, strata: list[Stratum]) -> list[Item | None]:
    """Return the items on how each arm's gain changes over the sizes: words, pictures, a table, fitted curves."""
    if ladder is None:
        return []
    return [
        Words(describe_ladder(ladder)),
        draw_gains(ladder),
        Table("Gain at each rung", build_ladder_columns(ladder), MARKS_FOOT),
        draw_power_laws(ladder),
        draw_transfer(strata),
    ]
