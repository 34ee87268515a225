"""campaign=NAME: one alpha over all verdicts of many studies on one baseline, in the order in which they are asked.

A question is one comparison with the baseline. Question i of a campaign has the share alpha i^-1.6 / zeta(1.6)
(`stats.spending.share_alpha`); a study of several has the sum of theirs, which its looks spend and Holm divides. When
every comparison of a study is better or worse, its alpha goes on to the study that is asked next. So the chance that
any "better" or "worse" of the whole campaign is wrong, however many follow and whatever their tests share, is at most
alpha: family-wise error, and not a false discovery rate. Equivalence is judged study by study.

A study that chooses (tune=grid, design=search, or any with confirm=N) asks one question, whatever it tries: its winner
against the baseline, each at its best rate, on N fresh seeds, looked at once. The runs that chose are no questions, and
their verdicts exploratory. Seeds that choose a rate must not judge it: an arm whose curve is flatter has more chances.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from gptlab.ablation.cells import KEYS_WITHOUT_EFFECT, Variant, hash_without_seed
from gptlab.ablation.options import StudyOptions
from gptlab.ablation.question import StudySpec
from gptlab.config.recipe import flatten
from gptlab.config.typecheck import show_value
from gptlab.errors import Refused
from gptlab.report.text.looks import format_alpha
from gptlab.runs.campaign_folder import CampaignFolder
from gptlab.runs.study_folder import StudyFolder
from gptlab.stats.results import Comparison, Findings
from gptlab.stats.spending import ALPHA, share_alpha

ALLOWED: dict[str, tuple[Any, ...]] = {
    "design": ("grid", "star", "leave_one_out", "search"),
    "match": ("tokens", "params"),
    "tune": ("shared", "grid"),
    "pairs": (False,),
}
"""Values of a study's knobs that go with a campaign: one family of comparisons, known before the first run."""
DEFAULT_FRESH_SEEDS = 5
"""Fresh seeds that are advised."""
NAMED_DIFFERENCES = 3
"""Keys that are named where a baseline is another one."""


def open_campaign(spec: StudySpec) -> CampaignFolder | None:
    """Return the folder of a study's campaign; None where it has none."""
    return CampaignFolder(Path(spec.outputs), spec.options.campaign) if spec.options.campaign else None


def preview_share(spec: StudySpec) -> StudySpec:
    """Return a study with the alpha that its campaign has for it; refuse what does not go with one. Writes nothing."""
    # also where the command names no campaign: it would judge at all of alpha what has a share of it
    _refuse_other_campaign(spec)
    campaign = open_campaign(spec)
    if campaign is None:
        return spec
    _refuse_unfit_study(spec)
    campaign.refuse_lost_events()
    _refuse_other_baseline(campaign, spec)
    question = campaign.find_asked(spec.name)
    _refuse_second_choice(question, spec)
    # more seeds of a study that was asked are a look of its plan, and no new question
    return _with_share(spec, question or _compute_share(campaign, spec))


def claim_share(spec: StudySpec) -> StudySpec:
    """Return a study with its alpha, which is written into the campaign's ledger before its first run."""
    campaign = open_campaign(spec)
    if campaign is None:
        return spec
    # two studies that ask at once must not take the same question
    with campaign.hold_lock():
        if not campaign.read_events("opened"):
            _open(campaign, _get_baseline(spec))
        # once more: another study may have opened the campaign since the preview
        _refuse_other_baseline(campaign, spec)
        question = campaign.find_asked(spec.name)
        _refuse_second_choice(question, spec)
        if question is None:
            question = campaign.record_event("asked", study=spec.name, **_compute_share(campaign, spec))
    return _with_share(spec, question)


def is_rejected_whole(findings: Findings, count: int) -> bool:
    """Return whether each of so many comparisons is better or worse, so that their alpha may go on."""
    comparison = find_asked_comparison(findings)
    # an arm that has not finished is not decided
    if comparison is None or len(comparison.contrasts) < count:
        return False
    return all(
        contrast.verdict in ("better", "worse") and not contrast.exploratory for contrast in comparison.contrasts
    )


def find_asked_comparison(findings: Findings) -> Comparison | None:
    """Return the comparison with which a study asks its campaign: on fresh seeds if it has some; None before."""
    # one stratum: a campaign has one baseline, and refuses studies of several sizes
    (stratum,) = findings.strata or [None]
    if stratum is None:
        return None
    return stratum.confirmed if findings.plan.asks_on_fresh_seeds else stratum.comparisons[0]


def _describe_choice(options: StudyOptions) -> dict[str, Any]:
    """Return what decides which arm is judged on which fresh seeds; nothing where a study judges all that it tries."""
    if not options.asks_on_fresh_seeds:
        return {}
    trials = {"trials": options.trials} if options.design == "search" else {}
    return {"confirm": options.confirm, "seeds": options.blocks, **trials}


def _refuse_second_choice(question: dict[str, Any] | None, spec: StudySpec) -> None:
    """Refuse to judge another winner, or on other fresh seeds, what a study has asked once."""
    now = _describe_choice(spec.options)
    if question is None or question.get("choice", {}) == now:
        return
    before = _write_choice(question.get("choice", {}))
    raise Refused(
        f"campaign={spec.options.campaign}: {spec.name} was asked with {before}, and {_write_choice(now)} "
        f"would judge anew; say {before}, or give another name="
    )


def _write_choice(choice: dict[str, Any]) -> str:
    """Return a choice as it is typed, without blanks inside a value."""
    return " ".join(
        f"{knob}={show_value(value).replace(' ', '')}" for knob, value in (choice or {"confirm": 0}).items()
    )


def _refuse_other_campaign(spec: StudySpec) -> None:
    """Refuse to judge a study of one campaign in another one, or at all of alpha."""
    folder = Path(spec.outputs).absolute() / "ablations" / spec.name
    of_folder = StudyFolder(folder).plan.campaign if (folder / "study.json").exists() else None
    if of_folder not in (None, spec.options.campaign):
        raise Refused(
            f"campaign={show_value(spec.options.campaign)}: {spec.name} was asked in campaign={of_folder}, at its "
            f"share of alpha; say campaign={of_folder}, or give another name="
        )


def _refuse_unfit_study(spec: StudySpec) -> None:
    """Refuse a study that is no family of comparisons with one baseline, known before the first run."""
    name = spec.options.campaign
    if spec.options.kind != "train":
        raise Refused(f"campaign={name} goes with study=train, and not with study={spec.options.kind}; leave one out")
    if spec.options.ladder:
        raise Refused(
            f"campaign={name} has one baseline, and each rung of ladder=[{','.join(spec.options.ladder)}] its own; "
            f"ask rung by rung, as in model={spec.options.ladder[-1]} campaign={name}, or leave campaign out"
        )
    for knob, allowed in ALLOWED.items():
        value = getattr(spec.options, knob)
        if value not in allowed:
            raise Refused(
                f"campaign={name} does not go with {knob}={show_value(value)}; "
                f"say {knob}={show_value(allowed[0])}, or leave campaign out"
            )
    if len(spec.baselines) > 1:
        raise Refused(f"campaign={name} has one baseline, and sizes have one each; give a campaign to each size")
    _refuse_unfit_choice(spec.options)
    if len(spec.variants) < 2 and spec.options.design != "search":
        raise Refused(f"campaign={name}: a study of one arm asks nothing; give an axis, as in attention=mha,gqa")


def _refuse_unfit_choice(options: StudyOptions) -> None:
    """Refuse a study that would judge by the seeds that choose, or that chooses among arms of unequal seeds."""
    name = options.campaign
    for knob, chooses in {"tune": "grid", "design": "search"}.items():
        if getattr(options, knob) == chooses and not options.confirm:
            raise Refused(
                f"campaign={name}: the seeds by which {knob}={chooses} chooses flatter what they choose; "
                f"say confirm={DEFAULT_FRESH_SEEDS}, fresh seeds on which its winner is one question"
            )
    if options.confirm and options.until != "seeds":
        raise Refused(
            f"campaign={name} confirm={options.confirm} chooses once, from equal seeds; until={options.until} does not "
            "go with it, say until=seeds"
        )


def _get_baseline(spec: StudySpec) -> Variant:
    (baseline,) = spec.baselines.values()
    return baseline


def _open(campaign: CampaignFolder, baseline: Variant) -> None:
    campaign.record_event(
        "opened",
        alpha=ALPHA,
        baseline=baseline.name,
        hash=hash_without_seed(baseline.recipe),
        overrides=baseline.overrides,
        config=_list_values(baseline),
    )


def _list_values(variant: Variant) -> dict[str, Any]:
    """Return the values of a recipe that change a number of its runs, by dotted key."""
    values = {}
    for key, value in flatten(variant.recipe.config).items():
        if not {key, key.partition(".")[0]} & {*KEYS_WITHOUT_EFFECT}:
            values[key] = value
    return values


def _refuse_other_baseline(campaign: CampaignFolder, spec: StudySpec) -> None:
    """Refuse a study of another baseline than the campaign's, and a new one after the held-back part was looked at."""
    for opened in campaign.read_events("opened")[:1]:
        baseline = _get_baseline(spec)
        # the hash decides; the values below are for the message
        if opened["hash"] == hash_without_seed(baseline.recipe):
            continue
        own_values, opened_values = _list_values(baseline), opened["config"]
        differing = [key for key in {**opened_values, **own_values} if own_values.get(key) != opened_values.get(key)]
        # knobs tell people more than the class path that came with them
        named = [key for key in differing if not key.endswith("._target_")] or differing
        words = []
        for key in named[:NAMED_DIFFERENCES]:
            words.append(f"{key}={show_value(own_values.get(key))}, not {show_value(opened_values.get(key))}")
        raise Refused(
            f"campaign={campaign.name} is of another baseline: {baseline.name} has {'; '.join(words)}; "
            "give another campaign="
        )
    for confirming in campaign.read_events("confirming")[:1]:
        # a study that was asked before goes on; a new one would be chosen with the last look known
        if campaign.find_asked(spec.name) is None:
            raise Refused(
                f"campaign={campaign.name} looked at its held-back part at {confirming['at']}, and asks no more; "
                "give another campaign="
            )


def _compute_share(campaign: CampaignFolder, spec: StudySpec) -> dict[str, Any]:
    """Return the numbers and the alpha of a study's questions, and what the studies before it returned."""
    # every arm but the baseline is one question, and a winner on fresh seeds is one whatever it won against
    count = 1 if spec.options.asks_on_fresh_seeds else len(spec.variants) - 1
    first = campaign.count_questions() + 1
    returned = _find_returned(campaign)
    return {
        "first": first,
        "count": count,
        "alpha": share_alpha(first, count) + sum(returned.values()),
        "returned": returned,
        "choice": _describe_choice(spec.options),
    }


def _find_returned(campaign: CampaignFolder) -> dict[str, float]:
    """Return the alpha of each earlier study whose comparisons are all decided, and whose alpha no other has."""
    from gptlab.report.findings import compare_study_folder

    questions = campaign.read_events("asked")
    # alpha goes on once
    handed_on = {study for event in questions for study in event["returned"]}
    returned = {}
    for event in questions:
        folder = campaign.outputs / "ablations" / event["study"]
        if event["study"] in handed_on or not (folder / "study.json").exists():
            continue
        if is_rejected_whole(compare_study_folder(folder), event["count"]):
            # with what it had been given by others, so that alpha moves on along a chain
            returned[event["study"]] = event["alpha"]
    return returned


def _with_share(spec: StudySpec, share: dict[str, Any]) -> StudySpec:
    """Return a study with its alpha, and the note that says which questions of the campaign it asks."""
    first, last = share["first"], share["first"] + share["count"] - 1
    numbers = f"question {first}" if first == last else f"questions {first} to {last}"
    returned = f", {format_alpha(sum(share['returned'].values()))} of it returned by {', '.join(share['returned'])}"
    start = f"campaign {spec.options.campaign}: "
    note = (
        f"{start}{numbers} asked of these validation tokens, alpha {format_alpha(share['alpha'])} of "
        f"{format_alpha(ALPHA)}{returned if share['returned'] else ''}"
    )
    # the preview's note goes: another study may have taken its numbers
    notes = [line for line in spec.notes if not line.startswith(start)]
    return replace(spec, alpha=share["alpha"], notes=[*notes, note])
