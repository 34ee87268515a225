"""A campaign as it stands: every study that was asked, and the ladder of changes that were accepted."""

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from gptlab.ablation.protocol.campaign import find_asked_comparison
from gptlab.config.typecheck import quote_for_shell
from gptlab.console.json_answer import add_to_answer
from gptlab.console.units import format_minutes, relative_to_cwd
from gptlab.errors import Refused
from gptlab.report.findings import compare_study_folder
from gptlab.report.text.looks import format_alpha
from gptlab.report.text.numbers import count_decimals, format_range, format_signed
from gptlab.report.text.view import pluralize
from gptlab.runs.campaign_folder import CampaignFolder
from gptlab.runs.study_folder import StudyFolder
from gptlab.stats.results import STEP, Contrast, Findings, Run
from gptlab.stats.spending import share_alpha


@dataclass(frozen=True)
class CampaignComparison:
    """One comparison of a campaign.

    question    its number in the campaign
    accepted    better, and by a planned look
    step_ratio  time of a step over the baseline's, timed in turn; None where it was not, since runs at other times
                do not tell
    flops       FLOPs of a token over the baseline's; `parameters` likewise
    minutes     that the runs of its study took, the baseline's and those of its other arms too
    lr          learning rates at which the arm and the baseline were judged; None where they were not tuned
    """

    question: int
    study: str
    arm: str
    verdict: str
    accepted: bool
    difference: float
    low: float
    high: float
    unit: str
    seeds: int
    p_holm: float
    level: float
    step_ratio: float | None
    flops: float | None
    parameters: float | None
    minutes: float
    lr: tuple[float, float] | None = None

    @property
    def change(self) -> str:
        """Name of what was changed, with its rates where they were tuned."""
        return f"{self.arm} at lr={self.lr[0]:g} (baseline at {self.lr[1]:g})" if self.lr else self.arm


def list_comparisons(campaign: CampaignFolder) -> list[CampaignComparison]:
    """Return the comparisons of all studies of a campaign that have run, in the order in which they were asked."""
    comparisons = []
    for event in campaign.read_events("asked"):
        folder = campaign.outputs / "ablations" / event["study"]
        # asked and killed before its plan was written, or its folder is gone: its questions stay spent
        if not (folder / "study.json").exists():
            continue
        findings = compare_study_folder(folder)
        asked = find_asked_comparison(findings)
        if asked is None:
            continue
        if findings.plan.asks_on_fresh_seeds:
            comparisons += [_make_comparison(event, findings, contrast, event["first"]) for contrast in asked.contrasts]
            continue
        # numbered as planned, so that an arm without a result yet keeps its question
        order = [arm for arm in StudyFolder(folder).plan.arms if arm != findings.strata[0].baseline]
        contrasts = {contrast.arm: contrast for contrast in asked.contrasts}
        for place, arm in enumerate(order):
            if arm in contrasts:
                comparisons.append(_make_comparison(event, findings, contrasts[arm], event["first"] + place))
    return comparisons


def _make_comparison(
    event: dict[str, Any], findings: Findings, contrast: Contrast, question: int
) -> CampaignComparison:
    """Return one comparison of a study, with what it costs beside the baseline."""
    step_times = next((timing.ratios for timing in findings.strata[0].timings if timing.metric == STEP), {})
    return CampaignComparison(
        question=question,
        study=event["study"],
        arm=contrast.arm,
        verdict=contrast.label,
        # an exploratory verdict comes of more seeds than any look planned, and has spent nothing for them
        accepted=contrast.verdict == "better" and not contrast.exploratory,
        difference=contrast.difference,
        low=contrast.low,
        high=contrast.high,
        unit=findings.strata[0].comparisons[0].metric.unit,
        seeds=len(contrast.seeds),
        p_holm=contrast.p_holm,
        level=contrast.level,
        step_ratio=step_times[contrast.arm][0] if contrast.arm in step_times else None,
        flops=_compare_means(findings.runs, contrast, "flops_per_token"),
        parameters=_compare_means(findings.runs, contrast, "params"),
        minutes=findings.seconds / 60,
        lr=_find_rates(findings, contrast),
    )


def _find_rates(findings: Findings, contrast: Contrast) -> tuple[float, float] | None:
    """Return the tuned learning rates of an arm and of its baseline on fresh seeds; None where they were not tuned."""
    rates = {run.arm: run.lr for run in findings.runs if run.role == "confirm" and run.lr is not None}
    rate, baseline_rate = rates.get(contrast.arm), rates.get(contrast.against)
    return None if rate is None or baseline_rate is None else (rate, baseline_rate)


def _compare_means(runs: list[Run], contrast: Contrast, key: str) -> float | None:
    """Return the mean of an arm's runs over that of its baseline's; None where one has no such number."""
    means = []
    for arm in (contrast.arm, contrast.against):
        # a twin or a run at another budget bears its arm's name too
        values = [run.values[key] for run in runs if run.arm == arm and run.role == "arm" and key in run.values]
        if not values:
            return None
        means.append(fmean(values))
    return means[0] / means[1] if means[1] else None


def print_campaign(campaign: CampaignFolder, console: Console) -> None:
    """Print a campaign: its baseline, what it asked and spent, the ladder, and what fresh seeds said of it."""
    opened = read_opening(campaign)
    studies, comparisons = campaign.read_events("asked"), list_comparisons(campaign)
    count = campaign.count_questions()
    # alpha that a study returned is spent by a later one: in all it is the plain shares
    spent = share_alpha(1, count)
    ladder = [comparison for comparison in comparisons if comparison.accepted]
    # once a study: each of its comparisons bears the minutes of all of it
    minutes = {comparison.study: comparison.minutes for comparison in comparisons}
    say = _printer(console)
    say(f"campaign {campaign.name}, since {opened['at']}: baseline {opened['baseline']}", "bold")
    say(
        f"  {pluralize(count, 'question')} asked of its validation tokens, studies: {len(studies)}; "
        f"alpha {format_alpha(spent)} of {format_alpha(opened['alpha'])} spent, family-wise (online fallback)"
    )
    say(f"  accepted: {len(ladder)} of {len(comparisons)} that have run, in {format_minutes(sum(minutes.values()))}")
    if comparisons:
        console.print(_build_table(comparisons))
        say("  a star is accepted; minutes are of the whole study; intervals are 95 %, over the looks of each")
    confirming = campaign.read_events("confirming")
    confirm = f"python -m gptlab confirm {campaign.name}"
    if campaign.outputs != Path("outputs").absolute():
        confirm += f" --outputs={quote_for_shell(str(relative_to_cwd(campaign.outputs)))}"
    if confirming:
        say(f"  held-back part: looked at {confirming[0]['at']}; {confirm}")
    elif ladder:
        say("  held-back part: not looked at; once, when the last question has been asked:")
        say(f"  {confirm}")
    # a key of the answer that stays: here `ladder` is the accepted changes, and no ladder of sizes
    accepted = [asdict(comparison) for comparison in ladder]
    add_to_answer(
        campaign=campaign.name,
        baseline=opened["baseline"],
        questions=count,
        alpha=opened["alpha"],
        spent=spent,
        ladder=accepted,
        asked=[asdict(comparison) for comparison in comparisons],
        confirmed=bool(confirming),
    )


def read_opening(campaign: CampaignFolder) -> dict[str, Any]:
    """Return the event that opened a campaign; refuse one that there is not."""
    campaign.refuse_lost_events()
    for opened in campaign.read_events("opened"):
        return opened
    raise Refused(
        f"there is no campaign {campaign.name} in {campaign.path.parent}; a study opens one: "
        f"python ablate.py attention=mha,gqa campaign={campaign.name}"
    )


def _build_table(comparisons: list[CampaignComparison]) -> Table:
    """Return the table of all comparisons, a row each; a star is accepted."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("  #", justify="right", no_wrap=True)
    table.add_column("change", overflow="fold")
    for head in (
        "difference",
        "95 % interval",
        "p (Holm)",
        "level",
        "seeds",
        "ms/step",
        "FLOPs",
        "parameters",
        "minutes",
    ):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for comparison in comparisons:
        # a quarter of a 95 % interval is about its standard error: more digits would be noise
        decimals = count_decimals((comparison.high - comparison.low) / 4)
        table.add_row(
            f"{'*' * comparison.accepted} {comparison.question}",
            comparison.change,
            format_signed(comparison.difference, decimals),
            # rich reads an open bracket as markup
            f"[{format_range(comparison.low, comparison.high, decimals)}]".replace("[", r"\["),
            f"{comparison.p_holm:.2g}",
            f"{comparison.level:.2g}",
            str(comparison.seeds),
            _format_ratio(comparison.step_ratio),
            _format_ratio(comparison.flops),
            _format_ratio(comparison.parameters),
            f"{comparison.minutes:.1f}",
            comparison.verdict,
        )
    return table


def _format_ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{format_signed(100 * (ratio - 1), 1)} %"


def _printer(console: Console) -> Any:
    def say(line: str, style: str = "") -> None:
        # soft_wrap, or a command to be copied is broken over two lines
        console.print(line, markup=False, soft_wrap=True, style=style)

    return say
