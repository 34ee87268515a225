"""Comparisons that another study has judged by the same runs, for the bill.

Each study has an alpha of its own. Asked again under another name, with another margin perhaps, the same runs are
judged a second time at all of it, and what was not resolved may be called better by that alone.
"""

from typing import TYPE_CHECKING

from gptlab.errors import Refused
from gptlab.runs.study_folder import StudyFolder

if TYPE_CHECKING:
    from gptlab.ablation.plan import Plan

MIN_SEEDS = 2
"""Runs of an arm, and of its baseline, that a verdict takes."""
MAX_NAMED = 3
"""Studies of which the line has the names."""


def describe_repeated_comparisons(plan: "Plan") -> list[str]:
    """Return a line for each arm that another study has judged against this baseline by runs of this study.

    None in a campaign, whose studies share one alpha.
    """
    if plan.spec.options.campaign or plan.spec.study.together or plan.spec.options.design == "search":
        return []
    own_runs: dict[tuple[str, str], set[str]] = {}
    for key, folder in plan.finished_runs.items():
        variant = plan.cells[key].variant
        own_runs.setdefault((variant.size, variant.name), set()).add(folder.name)
    studies: dict[tuple[str, str], list[str]] = {}
    for name, judged_runs in _read_judged_studies(plan).items():
        repeated = {arm for arm, runs in own_runs.items() if len(runs & judged_runs) >= MIN_SEEDS}
        for size, baseline in plan.baselines.items():
            if (size, baseline.name) in repeated:
                for arm in sorted(repeated - {(size, baseline.name)}):
                    if arm[0] == size:
                        studies.setdefault(arm, []).append(name)
    lines = []
    for (size, arm), names in studies.items():
        start = f"{size}: " if size else ""
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        lines.append(
            f"{start}{arm} was judged against {plan.baselines[size].name} by these runs before, in "
            f"{', '.join(names[:MAX_NAMED])}{more}: each study has an alpha of its own, campaign=NAME shares one"
        )
    return lines


def _read_judged_studies(plan: "Plan") -> dict[str, set[str]]:
    """Return the names of the runs of each other study of these outputs that has been judged, by its name."""
    runs_by_study = {}
    for file in sorted(plan.folder.path.parent.glob("*/study.json")):
        study = StudyFolder(file.parent)
        try:
            if file.parent != plan.folder.path and study.read_looked():
                runs_by_study[file.parent.name] = {state.run for state in study.read_states().values() if state.run}
        except Refused:  # a damaged ledger is refused to who asks for that study
            continue
    return runs_by_study
