"""Laws of campaign=NAME: studies of one baseline share one alpha; what was held back is looked at once."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tiny_runs import COMPARED, ROOT, Done, program, tiny

from gptlab.stats.spending import ALPHA, share_alpha

STUDY = ["steps=12", "metric=[bits_per_byte]", "model.lr=1e-3", "timing=0", "jobs=1", "looks=[3]", "seeds=3"]
BETTER = "optimizer.lr=1e-3,1e-2"
"""An axis that three seeds and twelve steps see."""


def ablate(pool: Path, *more: str, name: str = "tiny") -> Done:
    return program("ablate.py", *tiny(pool), *STUDY, f"campaign={name}", *more)


def ask(pool: Path, command: str, *words: str) -> dict[str, Any]:
    done = program("-m gptlab", command, "tiny", f"--outputs={pool}", *words, "--json")
    assert done.out, done.err
    return json.loads(done.out.splitlines()[-1])


def refused(done: Done) -> str:
    assert (done.status, done.err.count("\n")) == (2, 1), done.err
    return done.err


def test_a_campaign_from_its_first_question_to_its_ladder(tmp_path: Path):
    first = ablate(tmp_path, BETTER)
    assert first.status in COMPARED, first.err
    assert "campaign tiny: question 1 asked of these validation tokens, alpha .022 of .05" in first.out
    events = [json.loads(line) for line in (tmp_path / "campaigns/tiny/ledger.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["opened", "asked"]
    (study,) = (tmp_path / "ablations").iterdir()
    plan = json.loads((study / "study.json").read_text())
    assert plan["alpha"] == pytest.approx(share_alpha(1, 1))
    assert "evaluation.part=open" in plan["base"]

    assert "campaign tiny: question 1 asked" in ablate(tmp_path, BETTER, "dry_run=true").out  # it asks nothing new
    other = refused(ablate(tmp_path, "mlp=swiglu,gelu", "clip=0.5"))
    assert "campaign=tiny is of another baseline: mlp=swiglu has clip=0.5, not 1" in other

    for campaign in ("campaign=second", "evaluation.part=open"):  # neither anew, nor at all of alpha
        done = program("ablate.py", *tiny(tmp_path), *STUDY, BETTER, campaign)
        assert "was asked in campaign=tiny, at its share of alpha; say campaign=tiny" in refused(done)

    bill = ablate(tmp_path, "norm=rmsnorm,layernorm", "mlp=swiglu,gelu", "design=star", "dry_run=true")
    assert "campaign tiny: questions 2 to 3 asked of these validation tokens" in bill.out
    assert f"returned by {study.name}" in bill.out  # all that it asked is decided
    assert len((tmp_path / "campaigns/tiny/ledger.jsonl").read_text().splitlines()) == 2  # a bill asks nothing

    shown = program("-m gptlab", "campaign", "tiny", f"--outputs={tmp_path}")
    assert "1 question asked of its validation tokens" in shown.out

    # a ledger that lost its question would give the alpha a second time
    ledger = tmp_path / "campaigns/tiny/ledger.jsonl"
    before = ledger.read_text()
    opened = before.splitlines(keepends=True)[0]
    for damaged in ("", opened[:40], opened, before[:-40]):
        ledger.write_text(damaged)
        lines = [refused(ablate(tmp_path, axis, "dry_run=true")) for axis in (BETTER, "mlp=swiglu,gelu")]
        lines += [
            refused(program("-m gptlab", word, "tiny", f"--outputs={tmp_path}")) for word in ("campaign", "confirm")
        ]
        assert all(f"{ledger} does not have {study.name}, a study that was asked in it; put" in line for line in lines)
        assert ledger.read_text() == damaged
    ledger.write_text(before)
    assert "* 1  optimizer.lr=0.01" in shown.out
    assert "held-back part: not looked at" in shown.out


@pytest.mark.slow  # three processes
def test_a_confirmation_is_planned_once_on_fresh_seeds_and_closes_the_campaign(tmp_path: Path):
    assert ablate(tmp_path, BETTER).status in COMPARED
    more = ("optimizer.lr=1e-3", "clip=1.0,0.01")
    assert ablate(tmp_path, *more).status in COMPARED
    first, again = (ask(tmp_path, "confirm", f"--seeds={seeds}") for seeds in (2, 3))
    assert first["exit"] in COMPARED
    assert first["seeds"] == again["seeds"] == [3, 4]
    assert {verdict["arm"] for verdict in first["verdicts"]} >= {"optimizer.lr=0.01"}
    assert first["verdicts"] == again["verdicts"]
    assert "looked at its held-back part at" in refused(ablate(tmp_path, "norm=rmsnorm,layernorm"))
    assert ask(tmp_path, "campaign")["confirmed"] is True


@pytest.mark.slow  # three processes
def test_changes_that_do_not_go_together_are_confirmed_each_by_itself(tmp_path: Path):
    text = Path(shutil.copy(ROOT / "LICENSE", tmp_path / "text"))
    baseline = ("optimizer.lr=1e-4", "model.heads=4", "position=learned", f"data.path={text}")
    few_heads = "+arms.few_heads=[optimizer.lr=0.02,model.heads=2]"
    many_keys = "+arms.many_keys=[optimizer=muon,attention=gqa,attention.kv_heads=4]"
    for arm in (few_heads, many_keys):
        assert ablate(tmp_path, *baseline, arm).status in COMPARED
    assert {change["arm"] for change in ask(tmp_path, "campaign")["ladder"]} == {"few_heads", "many_keys"}
    ledger = tmp_path / "campaigns/tiny/ledger.jsonl"
    before = ledger.read_text()
    text.rename(moved := text.with_suffix(".moved"))
    assert "error" in ask(tmp_path, "confirm", "--seeds=2")  # what cannot run is refused
    moved.rename(text)
    assert ledger.read_text() == before  # and has not closed the campaign
    verdicts = ask(tmp_path, "confirm", "--seeds=2")["verdicts"]
    assert {verdict["arm"] for verdict in verdicts} == {"few_heads", "many_keys"}
    shown = program("-m gptlab", "campaign", "tiny", f"--outputs={tmp_path}").out
    assert f"python -m gptlab confirm tiny --outputs={tmp_path}" in shown


@pytest.mark.slow  # some twenty tiny runs
def test_a_grid_of_rates_asks_one_question_on_seeds_that_chose_nothing(tmp_path: Path):
    tuned = ("mlp=swiglu,gelu", "tune=grid", "lr_grid=[1,3]", "seeds=2", "confirm=3")
    done = ablate(tmp_path, *tuned)
    assert done.status in COMPARED, done.err
    assert "campaign tiny: question 1 asked of these validation tokens, alpha .022 of .05" in done.out
    assert (
        "one look, at 3 fresh seeds of the winner and the baseline: alpha .022; what chooses is no question" in done.out
    )
    (study,) = (tmp_path / "ablations").iterdir()
    comparison = json.loads((study / "comparison.json").read_text())["strata"][0]
    assert all(contrast["exploratory"] for contrast in comparison["comparisons"][0]["contrasts"])
    (asked,) = comparison["confirmed"]["contrasts"]
    assert asked["seeds"] == [2, 3, 4]
    assert asked["level"] == pytest.approx(share_alpha(1, 1))
    (listed,) = ask(tmp_path, "campaign")["asked"]
    assert (listed["arm"], listed["question"], listed["seeds"]) == ("mlp=gelu", 1, 3)
    assert len(listed["lr"]) == 2
    for words in (["confirm=4"], ["seeds=3"], ["confirm=0", "tune=grid"]):
        again = refused(ablate(tmp_path, *tuned, *words))
        assert "would judge anew; say confirm=3 seeds=[0,1]" in again or "say confirm=5" in again
    bill = ablate(tmp_path, "norm=rmsnorm,layernorm", "dry_run=true")
    assert "campaign tiny: question 2 asked" in bill.out


@pytest.mark.slow  # some ten tiny runs
def test_a_search_asks_one_question_however_many_trials_it_has(tmp_path: Path):
    pytest.importorskip("optuna")
    words = ("design=search", "sampler=grid", "mlp=swiglu,gelu,relu2", "trials=3", "seeds=2", "confirm=2")
    done = ablate(tmp_path, *words)
    assert done.status in COMPARED, done.err
    assert "campaign tiny: question 1 asked of these validation tokens" in done.out
    (listed,) = ask(tmp_path, "campaign")["asked"]
    assert (listed["question"], listed["seeds"], listed["lr"]) == (1, 2, None)
    assert "would judge anew; say confirm=2 seeds=[0,1] trials=3" in refused(ablate(tmp_path, *words, "trials=2"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["tune=grid", "mlp=swiglu,gelu"],
            "the seeds by which tune=grid chooses flatter what they choose; say confirm=5",
        ),
        (["design=search", "mlp=swiglu,gelu"], "the seeds by which design=search chooses flatter what they choose"),
        (
            ["confirm=5", "until=resolved", "mlp=swiglu,gelu"],
            "confirm=5 chooses once, from equal seeds; until=resolved",
        ),
        (["evaluation.part=all", "mlp=swiglu,gelu"], "campaign= chooses the part of the validation split itself"),
        ([], "a study of one arm asks nothing"),
    ],
)
def test_what_does_not_go_with_a_campaign_is_refused_in_one_line(tmp_path: Path, words: list[str], line: str):
    assert line in refused(ablate(tmp_path, *words))
    assert not (tmp_path / "campaigns").exists()


def test_a_ladder_has_a_baseline_at_each_rung_and_so_no_campaign(tmp_path: Path):
    shared = [word for word in (*tiny(tmp_path), *STUDY) if not word.startswith(("model", "steps"))]
    line = refused(program("ablate.py", *shared, "ladder=[nano,micro]", "mlp=swiglu,gelu", "campaign=tiny"))
    assert "each rung of ladder=[nano,micro] its own; ask rung by rung, as in model=micro campaign=tiny" in line


def test_a_name_that_is_no_folder_and_a_campaign_that_is_not_there_are_refused(tmp_path: Path):
    assert "is no name of one folder" in refused(ablate(tmp_path, "mlp=swiglu,gelu", name="../x"))
    assert "there is no campaign tiny" in refused(program("-m gptlab", "campaign", "tiny", f"--outputs={tmp_path}"))
    assert "there is no campaign tiny" in refused(program("-m gptlab", "confirm", "tiny", f"--outputs={tmp_path}"))


# -- the promised error rate


def run_campaigns(effects: tuple[float, ...], *, seeds: int = 3, campaigns: int = 4000, shared: bool = True):
    """Whether each question of many campaigns was rejected: t-tests against one baseline, its runs used by all.

    effects  of each question's arm, in SDs of a run; the last column is at 5 % each, without a campaign
    """
    random = np.random.default_rng(5)
    baseline = random.standard_normal((campaigns, seeds))
    share, rejected, naive = np.zeros(campaigns), [], []
    last = np.zeros(campaigns, bool)
    for number, effect in enumerate(effects, 1):
        difference = random.standard_normal((campaigns, seeds)) + effect - baseline
        p = 2 * stats.t.sf(abs(difference.mean(1)) / (difference.std(1, ddof=1) / seeds**0.5), seeds - 1)
        share = share_alpha(number, 1) + np.where(last & shared, share, 0.0)
        last = p < share
        rejected.append(last)
        naive.append(p < ALPHA)
    return np.array(rejected), np.array(naive)


def test_the_shares_of_all_questions_sum_to_alpha():
    assert share_alpha(1, 100_000) == pytest.approx(ALPHA, rel=1e-2)
    assert share_alpha(1, 3) == pytest.approx(sum(share_alpha(number, 1) for number in (1, 2, 3)))
    assert share_alpha(1, 1) > share_alpha(2, 1) > share_alpha(10, 1)


@pytest.mark.parametrize("effects", [(0.0,) * 20, (4.0, 0.0, 0.0, 6.0, 0.0, 0.0) * 3], ids=["nothing", "some"])
def test_a_whole_campaign_errs_in_one_of_twenty_whatever_its_questions_share(effects: tuple[float, ...]):
    rejected, naive = run_campaigns(effects)
    null = np.array(effects) == 0
    assert rejected[null].any(0).mean() <= ALPHA + 2 * 0.0035  # standard error of 4,000 campaigns
    assert naive[null].any(0).mean() > 0.3  # each study at 5 % by itself


def test_what_is_returned_adds_power():
    effects = (8.0, 8.0, 8.0, 8.0, 4.0)
    with_returns, without = (run_campaigns(effects, seeds=5, shared=shared)[0][-1].mean() for shared in (True, False))
    assert with_returns > without + 0.1


def test_to_ask_on_only_while_the_baseline_looks_bad_gains_no_errors():
    rejected, _ = run_campaigns((0.0,) * 20)
    lucky = np.random.default_rng(5).standard_normal((4000, 3)).mean(1) > 0  # the same baselines: worse than usual
    stopped = rejected.copy()
    stopped[1:] &= lucky
    assert stopped.any(0).mean() <= ALPHA + 2 * 0.0035
