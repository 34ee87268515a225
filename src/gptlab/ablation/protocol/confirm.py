"""python -m gptlab confirm CAMPAIGN: judge the accepted changes once more, on fresh seeds and tokens kept back for it.

Seeds that chose a change flatter it, and so do the tokens on which it was chosen. The confirmation trains the baseline,
every accepted change and all of them together on seeds that no study of the campaign had, and scores them on the part
of the validation split that none of its runs has seen. It is planned once, and closes the campaign. Where all of them
together cannot be built, each is judged by itself.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from gptlab.ablation.protocol.campaign_state import list_comparisons, read_opening
from gptlab.commands.python_study import Study
from gptlab.config.typecheck import quote_for_hydra
from gptlab.console.json_answer import add_to_answer
from gptlab.console.units import relative_to_cwd
from gptlab.errors import Refused
from gptlab.runs.campaign_folder import CampaignFolder
from gptlab.runs.record import read_json, write_atomically
from gptlab.runs.study_folder import StudyFolder

BASELINE, TOGETHER = "baseline", "all together"
PART = "evaluation.part=open"


DEFAULT_SEEDS = 5


def confirm_campaign(campaign: CampaignFolder, seeds: int | None) -> Study:
    """Run a campaign's confirmation, or go on with it, and return the study.

    seeds  fresh ones, DEFAULT_SEEDS where it is None; a confirmation that was begun keeps its own, and says so
    """
    read_opening(campaign)
    with campaign.hold_lock():
        begun = campaign.read_events("confirming")
        if begun:  # planned once: with the results known, one could try seeds until they please
            event = begun[0]
        else:
            plan = _leave_out_unfit(campaign, _plan_confirmation(campaign, seeds or DEFAULT_SEEDS))
            event = campaign.record_event("confirming", **plan)
    if seeds not in (None, len(event["seeds"])):
        print(f"campaign {campaign.name} is confirmed once, by {len(event['seeds'])} seeds: --seeds={seeds} adds none")
    # anew each time from the ledger, so that an edited file changes nothing
    study = _make_study(campaign, event).run()
    for verdict in study.verdicts:
        print("{arm} against {against}: {label}, {difference:+.4f} [{low:+.4f}, {high:+.4f}] {unit}".format(**verdict))
    print(relative_to_cwd(study.folder))
    add_to_answer(campaign=campaign.name, seeds=event["seeds"], **(study.answer or {}))
    return study


def _make_study(campaign: CampaignFolder, plan: dict[str, Any]) -> Study:
    """Return the study of a planned confirmation, whose file of arms is written."""
    path = campaign.path / "confirm.yaml"
    write_atomically(path, yaml.safe_dump(plan["arms"], sort_keys=False, allow_unicode=True))
    return Study(
        *plan["shared"],
        f"arms={_quote_path(path)}",
        f"baseline={BASELINE}",
        f"name={campaign.name}-confirm",
        f"outputs={_quote_path(campaign.outputs)}",
        f"seeds=[{','.join(map(str, plan['seeds']))}]",
        # a single look, which has all of alpha
        f"looks=[{len(plan['seeds'])}]",
        "evaluation.part=held_back",
        # its arms have been timed by the studies that chose them
        "timing=0",
    )


def _leave_out_unfit(campaign: CampaignFolder, plan: dict[str, Any]) -> dict[str, Any]:
    """Return a plan without the arm of all changes, if they do not go together; refuse one that cannot run.

    Before it is written down: a plan that cannot run would have closed the campaign, and never be judged.
    """
    try:
        _make_study(campaign, plan).check()
        return plan
    except Refused as refused:
        if TOGETHER not in plan["arms"] or not str(refused).startswith(f"{TOGETHER}:"):
            raise
        print(f"{refused}; so each change is judged by itself alone", file=sys.stderr)
    plan = {**plan, "arms": {name: words for name, words in plan["arms"].items() if name != TOGETHER}}
    _make_study(campaign, plan).check()
    return plan


def _quote_path(path: Path) -> str:
    """Return a path as the value of an override, as one would type it here."""
    return quote_for_hydra(str(relative_to_cwd(path)))


def _plan_confirmation(campaign: CampaignFolder, seeds: int) -> dict[str, Any]:
    """Return the arms, the overrides that they share, and the seeds of a confirmation."""
    accepted = [comparison for comparison in list_comparisons(campaign) if comparison.accepted]
    if not accepted:
        raise Refused(
            f"campaign {campaign.name} has accepted no change, so there is nothing to confirm; "
            "its held-back part stays unseen"
        )
    lists = {BASELINE: read_opening(campaign)["overrides"]}
    for comparison in accepted:
        folder = StudyFolder(campaign.outputs / "ablations" / comparison.study)
        lists[comparison.change] = folder.plan.arms[comparison.arm]
        if comparison.lr is not None:
            lists[comparison.change] = _read_overrides(folder, comparison.arm)
            # so that one sees what of the gain is the change, and what the rate alone
            tuned, name = _read_overrides(folder, folder.plan.baseline), f"{BASELINE} at lr={comparison.lr[1]:g}"
            if sorted(tuned) != sorted(lists[BASELINE]):
                lists[name] = tuned
    # what all say is said once; the file of arms holds what each changes of it
    in_all = set.intersection(*({*words} for words in lists.values()))
    shared = [word for word in lists[BASELINE] if word in in_all]
    arms = {name: _leave_out(words, shared) for name, words in lists.items()}
    # what the baseline says too is no change; a word of one study may be a default of another
    changes = [_leave_out(arms[comparison.change], arms[BASELINE]) for comparison in accepted]
    together = _join(changes)
    if len(accepted) > 1 and together:
        arms[TOGETHER] = together
    used: set[int] = set()
    for event in campaign.read_events("asked"):
        used |= {*_read_seeds(campaign.outputs / "ablations" / event["study"])}
    # beyond every seed of the campaign, also those of arms that were not accepted
    first = max(used) + 1
    return {
        "shared": _strip_place(shared),
        "arms": {name: _strip_place(words) for name, words in arms.items()},
        "seeds": [*range(first, first + seeds)],
    }


def _read_overrides(folder: StudyFolder, arm: str | None) -> list[str]:
    """Return the overrides with which an arm ran on fresh seeds, its tuned learning rate among them."""
    for path in sorted((folder.path / "cells").glob("*.json")):
        cell = read_json(path)
        if (cell["arm"], cell["role"]) == (arm, "confirm"):
            return [word for word in cell["overrides"] if not word.startswith("seed=")]
    raise Refused(f"{folder.path} has no run of {arm} on fresh seeds; repeat its command")


def _leave_out(words: list[str], others: list[str]) -> list[str]:
    """Return the words that are not among the others."""
    return [word for word in words if word not in others]


def _strip_place(words: list[str]) -> list[str]:
    """Return the words without the folder and the part of the split, which the confirmation says anew for itself."""
    return [word for word in words if not word.startswith(("outputs=", PART))]


def _join(changes: list[list[str]]) -> list[str]:
    """Return all changes as one list of overrides; an empty one where two of them set the same key."""
    # two arms that were tuned to the same rate say so twice
    words = list(dict.fromkeys(word for words in changes for word in words))
    keys = [word.partition("=")[0] for word in words]
    return words if len({*keys}) == len(keys) else []


def _read_seeds(folder: Path) -> list[int]:
    """Return the seeds that a study was planned with last, and its fresh ones; none where its folder is gone."""
    if not (folder / "study.json").exists():
        return []
    plan = StudyFolder(folder).plan
    first = max(plan.seeds) + 1
    return [*plan.seeds, *range(first, first + plan.confirm)]
