"""What a study refuses: to be judged otherwise than it was, and knobs that would change nothing."""

import json
from pathlib import Path

import planted_runs as planted
import pytest
from tiny_runs import COMPARED, Done, program, tiny

from gptlab.report.render.answer import NOT_RESOLVED, choose_status
from gptlab.runs.study_folder import StudyFolder
from gptlab.stats.labels import find_arm

STUDY = ["steps=6", "metric=[bits_per_byte]", "timing=0", "jobs=1", "optimizer.lr=1e-3,2e-3"]
LOOKS = ["looks=[2,3]", "seeds=2", "name=asked"]


def ablate(pool: Path, *more: str) -> Done:
    return program("ablate.py", *tiny(pool), *STUDY, *more)


def refusal(done: Done) -> str:
    assert (done.status, done.err.count("\n")) == (2, 1), done
    return done.err


@pytest.mark.thorough
def test_a_study_that_was_judged_is_judged_in_one_way_only(tmp_path: Path):
    first = ablate(tmp_path, *LOOKS)
    assert first.status in COMPARED, first.err
    before = sorted(tmp_path.rglob("*"))
    for knob, was in {
        "delta=0.5": "delta=null",
        "decides=params": "decides=null",
        "variance=own": "variance=auto",
        "pairs=true": "pairs=false",
        "baseline=2e-3": "optimizer.lr=0.001",
    }.items():
        line = refusal(ablate(tmp_path, *LOOKS, knob))
        assert "this study has been judged by " in line
        assert was in line.partition("; say ")[2], line
        assert line.endswith("or give another name=\n")
    assert sorted(tmp_path.rglob("*")) == before
    assert ablate(tmp_path, *LOOKS, "delta=null", "seeds=3").status in COMPARED  # what it was may be said


@pytest.mark.thorough
def test_budgets_that_come_after_a_verdict_price_it_and_leave_its_margin(tmp_path: Path):
    def find_margin(name: str) -> str:
        (stratum,) = json.loads((tmp_path / "ablations" / name / "comparison.json").read_text())["strata"]
        return stratum["comparisons"][0]["delta_from"]

    half_a_percent = "0.5 % of the baseline's loss"
    for budget in ([], ["budget=[0.5,2]"], []):
        assert ablate(tmp_path, *LOOKS, *budget).status in COMPARED
        assert find_margin("asked") == half_a_percent
    # asked for at first, they say what 2 % of compute are worth
    assert ablate(tmp_path, *LOOKS, "name=first", "budget=[0.5,2]").status in COMPARED
    assert find_margin("first") == "the loss worth 2 % of training compute"
    assert "budget=[]: this study has been judged by budget=[0.5,2]," in refusal(ablate(tmp_path, *LOOKS, "name=first"))


@pytest.mark.thorough
def test_the_bill_says_which_arms_another_study_has_judged_by_the_same_runs(tmp_path: Path):
    line = "optimizer.lr=0.002 was judged against optimizer.lr=0.001 by these runs before, in "
    assert ablate(tmp_path, *LOOKS).status in COMPARED
    own = ablate(tmp_path, *LOOKS, "seeds=3", "dry_run=true")  # the next look of the same study
    other = program("ablate.py", *tiny(tmp_path), *STUDY[:-1], *LOOKS[:2], "optimizer.lr=1e-3,3e-3", "dry_run=true")
    for bill in (own, other):
        assert (bill.status, "was judged against" in bill.out) == (0, False), bill
    again = ablate(tmp_path, *LOOKS[:2], "name=again", "delta=0.5", "dry_run=true")
    assert f"{line}asked: each study has an alpha of its own" in again.out


@pytest.mark.thorough
def test_a_winner_is_judged_on_fresh_seeds_once(tmp_path: Path):
    assert ablate(tmp_path, *LOOKS, "confirm=2").status in COMPARED
    assert ablate(tmp_path, *LOOKS, "confirm=2").status in COMPARED  # the same again is the same
    line = refusal(ablate(tmp_path, *LOOKS, "confirm=3"))
    assert "as of confirm=2 seeds=[0,1], and would be judged anew" in line
    assert "as of confirm=2 seeds=[0,1]" in refusal(ablate(tmp_path, *LOOKS, "seeds=3", "confirm=2"))
    assert ablate(tmp_path, *LOOKS, "seeds=3").status in COMPARED
    # without it in between, too
    assert "would be judged anew" in refusal(ablate(tmp_path, *LOOKS, "seeds=3", "confirm=4"))


def test_an_arm_without_a_verdict_leaves_its_study_undecided():
    runs = planted.runs(3, other=0.2, third=0.3)
    judged = planted.judged(runs)
    assert choose_status(judged) == 0
    elsewhere = [run for run in runs if run.arm != "third" or run.seed == 5]  # no seed of it has run
    for seed, run in enumerate(runs):
        if run.arm == "third":
            elsewhere.append(planted.replace(run, seed=10 + seed))
    assert choose_status(planted.judged(elsewhere)) == NOT_RESOLVED


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trials=30"], "trials=30 speaks of design=search"),
        (["sampler=grid"], "sampler=grid speaks of design=search"),
        (["limits={params: 1e9}"], "speaks of design=search"),
        (["resize=mlp.hidden"], "resize=mlp.hidden is what match=params turns, and match is tokens"),
        (["lr_grid=[1,2]"], "lr_grid=[1, 2] speaks of tune=grid"),
        (["tokens_per_parameter=5"], "tokens_per_parameter=5 speaks of a ladder"),
        (["project_limit=3"], "project_limit=3 speaks of project="),
        (["study=search", "sampler=tpe"], "sampler=tpe: study=search compares several; say study.samplers="),
        (["decides=val/token_accuracy"], "is computed by metric=[token_accuracy], which is not given; add it"),
        (["decides=val/loss_test"], "decides=val/loss_test is of design=search alone"),
        (["study=size", "decides=params"], "decides=params does not go with study=size, which trains nothing"),
        (["study=size", "delta=0.1"], "delta=0.1 does not go with study=size"),
        (["study=size", "design=search"], "design=search does not go with study=size"),
        (["exclude=[1e-3,2e-3]"], "exclude=[0.001,0.002] leaves no arm"),
        (["exclude=['']"], "has an empty text"),
        (["exclude=[3e-3]"], "exclude=0.003: no arm has it"),
    ],
)
def test_what_would_change_nothing_is_refused(words: list[str], line: str, tmp_path: Path):
    assert line in refusal(ablate(tmp_path, *words, "dry_run=true"))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ("[clip=0.5, clip=0.7]", "a: clip is given twice; give it once"),
        ("[outputs=elsewhere]", "a: outputs=elsewhere is of the whole study"),
        ("[name=x]", "a: name=x is of the whole study"),
        ("[tracking=offline]", "a: tracking=offline is of the whole study"),
        ("[hydra.run.dir=x]", "a: hydra.run.dir=x is of the whole study"),
        ("[resume=auto]", "a: resume=auto is of one run and no part of an arm"),
        ("[content=x]", "a: content=x is of one run"),
    ],
)
@pytest.mark.parametrize("kind", ["arms", "tasks"])
def test_an_arm_or_a_task_sets_nothing_that_a_study_has_once(kind: str, overrides: str, line: str, tmp_path: Path):
    (tmp_path / "named.yaml").write_text(f"a: {overrides}\nb: []\n")
    words = [*tiny(tmp_path / "pool"), *STUDY[:-1], f"{kind}={tmp_path}/named.yaml", "dry_run=true"]
    assert line in refusal(program("ablate.py", *words))


def test_an_arm_is_left_out_by_the_value_that_was_typed(tmp_path: Path):
    for value in ("2e-3", "'optimizer.lr=2e-3'", "0.002", "'optimizer.lr=0.002'"):
        words = [*tiny(tmp_path), *STUDY[:-1], "optimizer.lr=1e-3,2e-3,3e-3", f"exclude=[{value}]", "dry_run=true"]
        done = program("ablate.py", *words)
        assert "left out by exclude: optimizer.lr=0.002" in done.out, done.err
    arms = {f"{knob}={value}": ((knob, value),) for knob, value in (("bias", "True"), ("betas", "[0.9,0.95]"))}
    assert find_arm("bias=true", arms) == "bias=True"
    assert find_arm("[0.9,0.95]", arms) == "betas=[0.9,0.95]"


def test_an_arm_that_says_its_steps_has_them(tmp_path: Path):
    (tmp_path / "named.yaml").write_text("longer: [steps=12]\nsmaller: [batch_size=4]\nplain: []\n")
    words = [*tiny(tmp_path / "pool"), *STUDY[:-1], f"arms={tmp_path}/named.yaml", "dry_run=true"]
    done = program("ablate.py", *words)
    assert "tokens against plain: longer +100.0%" in done.out
    assert "smaller: steps=12, so that tokens match" in done.out
    assert "longer: steps" not in done.out


def test_the_ledger_says_which_seeds_chose_a_winner(tmp_path: Path):
    ablate(tmp_path, *LOOKS, "confirm=2")
    lines = (tmp_path / "ablations/asked/ledger.jsonl").read_text().splitlines()
    (compared,) = [event for event in map(json.loads, lines) if event["status"] == "compared"]
    assert (compared["seeds"], compared["confirm"]) == ([0, 1], 2)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pool of a campaign of one study."""
    pool = tmp_path_factory.mktemp("pool")
    done = ablate(pool, "looks=[2,3]", "seeds=2", "name=asked", "campaign=ours")
    assert done.status in COMPARED, done.err
    return pool


def test_within_a_campaign_too_a_study_is_judged_in_one_way(campaign: Path):
    line = refusal(ablate(campaign, "looks=[2,3]", "seeds=2", "name=asked", "campaign=ours", "decides=params"))
    assert "decides=params: this study has been judged by decides=null" in line


@pytest.mark.parametrize(
    "damage", ["[]", '{"event": "asked"}', '{"event": "opened"}', "\x00\ufffd", "3", '{"event": 3}']
)
def test_a_campaign_whose_ledger_has_a_line_that_is_no_event_is_refused(damage: str, campaign: Path):
    ledger = campaign / "campaigns/ours/ledger.jsonl"
    whole = ledger.read_text()
    ledger.write_text(f"{damage}\n{whole}")
    done = program("-m gptlab", "campaign", "ours", "--outputs", str(campaign))
    asked = ablate(campaign, "looks=[2,3]", "seeds=2", "name=other", "campaign=ours", "dry_run=true")
    ledger.write_text(whole)
    assert "is no event of a campaign; put a copy of the file back" in refusal(done)
    assert "is no event of a campaign" in refusal(asked)


def test_an_event_behind_one_that_was_cut_short_is_read(tmp_path: Path):
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"key": "a", "status": "run')
    folder = StudyFolder(tmp_path)
    folder.record_event("", "compared", seeds=[0, 1])
    assert folder.read_looked() == [2]


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("timing.json", "{}", "timing.json holds no times by arm; remove it"),
        ("timing.json", '{"timed": {"time/step_ms": {"a": ["x"]}}}', "timing.json holds no times by arm"),
        ("registered.json", '{"plan": 3}', "registered.json is no registered plan"),
        ("study.json", {"alpha": 5.0}, "alpha=5 is no probability"),
        ("study.json", {"looks": [3, 2]}, "looks=[3, 2] do not increase from 2"),
        ("ledger.jsonl", '{"key": "", "status": "compared"}\n', "is a look without its seeds"),
        ("cell", {"seed": "x"}, "is no cell of a study (see its seed)"),
        ("cell", {"role": "x"}, "is no cell of a study (see its role)"),
    ],
)
def test_a_damaged_file_of_a_study_is_named(name: str, content: str | dict[str, object], line: str, campaign: Path):
    folder = StudyFolder(campaign / "ablations/asked")
    path = folder.path / (f"cells/{folder.plan.cells[0]}.json" if name == "cell" else name)
    whole = path.read_text() if path.exists() else None
    damaged = content if isinstance(content, str) else json.dumps({**json.loads(whole or ""), **content})
    path.write_text(damaged)
    done = program("-m gptlab", "judge", str(folder.path))
    path.unlink() if whole is None else path.write_text(whole)
    assert line in refusal(done)


def test_a_knob_that_study_json_sets_and_no_arm_has_is_named(campaign: Path):
    path = campaign / "ablations/asked/study.json"
    whole = path.read_text()
    path.write_text(json.dumps({**json.loads(whole), "settled": {"optimizer.lr=0.002": [["nope.x", 2, "matched"]]}}))
    done = ablate(campaign, "looks=[2,3]", "seeds=2", "name=asked", "campaign=ours")
    path.write_text(whole)
    assert "study.json sets nope.x of optimizer.lr=0.002, which has no such knob" in refusal(done)


def test_a_study_that_is_named_twice_is_judged_by_its_looks(campaign: Path):
    once, twice = ([str(campaign / "ablations/asked")] * times for times in (1, 2))
    first, second = (program("-m gptlab", "judge", *folders, "--json") for folders in (once, twice))
    assert json.loads(second.out.splitlines()[-1])["verdicts"] == json.loads(first.out.splitlines()[-1])["verdicts"]


def test_minutes_that_leave_no_time_to_train_are_refused_by_the_study_and_not_by_each_cell(tmp_path: Path):
    line = refusal(ablate(tmp_path, "max_minutes=0.0001"))
    assert line.startswith("error: max_minutes=0.0001 leaves no time to train: all the rest takes ")
    assert not [*tmp_path.iterdir()]
