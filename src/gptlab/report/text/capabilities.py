"""The capability table of a study over several tasks: a task a row, an arm a column, each judged by itself."""

from gptlab.report.text.columns import Column
from gptlab.report.text.numbers import choose_decimals, count_decimals, format_fixed, format_signed, get_interval
from gptlab.report.text.view import MARKS, View

CAPTION = "the mean over seeds, the 95 % interval of the difference from the baseline, the verdict"


def list_arms(views: list[View]) -> dict[str, str]:
    """Return the short names of all arms, the baseline first, then in the order of the study's command."""
    names: dict[str, str] = {}
    for view in views:
        names |= {arm: view.short_name(arm) for arm in view.order}
    # keys are task/arm: each arm once, as the command named it
    planned = [*dict.fromkeys(arm.partition("/")[2] for arm in views[0].plan.arms if "/" in arm)]
    baseline = views[0].comparison.baseline
    order = sorted(names, key=lambda arm: (arm != baseline, planned.index(arm) if arm in planned else len(planned)))
    return {arm: names[arm] for arm in order}


def build_capability_columns(views: list[View]) -> list[Column]:
    """Return the table, empty for a study without tasks."""
    if not views or not views[0].plan.tasks:
        return []
    tasks, metrics = [], []
    for view in views:
        metric = view.comparison.metric
        tasks.append(view.stratum.size)
        metrics.append(f"{metric.name} {'↑' if metric.better == 'higher' else '↓'}")
    columns = [Column("task", tasks, left=True), Column("by", metrics, left=True)]
    for arm, name in list_arms(views).items():
        columns.append(Column(name, [_format_cell(view, arm) for view in views], left=True))
    return columns


def _format_cell(view: View, arm: str) -> str:
    """Return "0.993 [+0.61, +0.69] ✓"; the baseline has its mean alone."""
    means = {row.arm: row.mean for row in view.comparison.arms}
    mean, contrast, delta = means.get(arm), view.contrasts.get(arm), view.comparison.delta
    if mean is None:
        # an arm that was left out of this task alone has an empty cell
        return view.get_verdict(arm) if arm in means else ""
    if contrast is None:
        return format_fixed(mean, count_decimals(delta))
    decimals, ends = max(2, choose_decimals(contrast, delta)), get_interval(contrast)
    interval = f" [{format_signed(ends[0], decimals)}, {format_signed(ends[1], decimals)}]" if ends else ""
    return f"{format_fixed(mean, decimals)}{interval} {MARKS.get(contrast.verdict, '')}".rstrip()
