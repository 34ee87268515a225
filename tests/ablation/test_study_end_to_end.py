"""A study from its command to its verdicts, on decoders so small that it takes seconds."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from forked_process import Forked
from tiny_runs import COMPARED, Done, program, summary, tiny

from gptlab.ablation import gpu_share as sharing
from gptlab.ablation import worker as cells
from gptlab.report.findings import compare_study_folder
from gptlab.runs import study_folder as study_folder_module
from gptlab.runs.record import write_atomically
from gptlab.runs.study_folder import StudyFolder, is_held, lock_or_owner

STUDY = ["model.heads=2", "steps=12", "save_every=3", "metric=[bits_per_byte]", "timing=0", "seeds=2", "jobs=1"]
AXIS = "attention=mha,gqa"


def words(pool: Path, *more: str) -> list[str]:
    """The overrides of a tiny study."""
    given = {one.partition("=")[0] for one in more}
    given |= {"jobs"} if "hydra/launcher" in given else set()
    return [*(one for one in [*tiny(pool), *STUDY] if one.partition("=")[0] not in given), *more]


def ablate(pool: Path, *more: str) -> Done:
    """python ablate.py, in this process."""
    return program("ablate.py", *words(pool, *more))


def start(pool: Path, *more: str) -> Forked:
    """python ablate.py, in a process of its own."""
    return Forked("ablate.py", *words(pool, *more))


def ended(process: Forked, status: int | None = None) -> str:
    """What a process of `start` said."""
    out, err = process.communicate(timeout=180)
    assert process.returncode in (COMPARED if status is None else (status,)), out + err
    return out


def study_folder(pool: Path) -> StudyFolder:
    """The only study of a pool."""
    (file,) = (pool / "ablations").glob("*/study.json")
    return StudyFolder(file.parent)


def events(pool: Path) -> list[dict[str, Any]]:
    """What has happened so far, if anything."""
    return [event for folder in (pool / "ablations").glob("*/") for event in StudyFolder(folder).read_events()]


def trained(study: StudyFolder) -> list[str]:
    """Cells that were trained, each as often as it was."""
    return [event["key"] for event in study.read_events() if event["status"] == "finished" and not event.get("reused")]


def losses(study: StudyFolder) -> dict[tuple[str, int, str], float]:
    """The loss of every cell."""
    return {(run.arm, run.seed, run.role): run.values["val/loss"] for run in compare_study_folder(study.path).runs}


def verdicts(study: StudyFolder) -> Any:
    """What is concluded of the loss."""
    comparison = compare_study_folder(study.path).strata[0].comparisons[0]
    assert comparison.metric.key == "val/loss"
    return [(c.arm, c.difference, c.low, c.high, c.p_holm, c.verdict) for c in comparison.contrasts]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a whole study lives, in two arms by two seeds."""
    made = tmp_path_factory.mktemp("study")
    done = ablate(made, AXIS)
    assert done.status in COMPARED, done.err
    return made


# -- plan and bill


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["attention=gqa,foo"], "attention=foo: no such option"),
        (["attention.kv_heads=1,2,3,5"], "error: attention.kv_heads=5 does not divide model.heads=2"),
        (["position=nope", "position.theta=1e4,2e4"], "position.theta has no effect with position=nope"),
        (["model.lr=1e-3,2e-3", "optimizer.lr=1e-3"], "model.lr has no effect"),
        (["save_every=5,6"], "save_every has no effect"),
        (["desing=star", AXIS], "did you mean design?"),
        (["norm._target_=-0.0,2"], "norm._target_=-0.0 lies outside gptlab."),
        (["norm._target_=gptlab.nothing.Norm,gptlab.no.Norm"], "norm._target_=gptlab.nothing.Norm cannot be imported"),
        (["design=grid,star"], "a study has one design"),
        ([AXIS, "baseline=swa"], "baseline=swa is no arm"),
        ([AXIS, "resume=auto"], "by the same command"),
        ([AXIS, "seed=x"], "is no whole number"),
        ([AXIS, "tune=grid", "optimizer.lr=1e-3"], "tune=grid sets optimizer.lr itself"),
        ([AXIS, "match=params", "resize=mlp.foo"], "has no resize=mlp.foo"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(tmp_path: Path, asked: list[str], told: str):
    done = ablate(tmp_path, *asked)
    assert done.status == 2
    assert told in done.err
    assert all(line.startswith("error: ") for line in done.err.strip().splitlines())
    assert not list(tmp_path.iterdir())


def test_every_refusal_is_listed(tmp_path: Path):
    lines = ablate(tmp_path, "attention.kv_heads=1,2,3,5").err.strip().splitlines()
    assert [line.split()[1] for line in lines] == ["attention.kv_heads=3", "attention.kv_heads=5"]


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (["attention=mha,nope"], "attention=nope: no such option"),
        (["attention=mha,nope", "norm=rmsnorm,layernorm"], "attention=nope: no such option"),
        (["change=[],[nope]"], "change=nope: no such option"),
        (["optimizer.lr=1e-3,nan"], "optimizer.lr=nan is not a finite number"),
        # of the two arms with kv_heads=2 one alone is wrong, so it is named
        (["model.heads=2,3", "attention.kv_heads=1,2"], "model.heads=3 attention.kv_heads=2: attention.kv"),
    ],
)
def test_a_refused_arm_is_named_once(tmp_path: Path, asked: list[str], line: str):
    assert ablate(tmp_path, *asked, "model.width=12").err.startswith(f"error: {line}")


@pytest.mark.parametrize(
    ("asked", "pair"),
    [
        (["attention=gqa"], "attention=mha,gqa"),
        (["attention=mha"], "attention=mha,gqa"),
        (["norm=layernorm", "steps=4"], "norm=rmsnorm,layernorm"),
        ([AXIS, "exclude=[gqa]"], "attention=mha,gqa"),
        ([AXIS], ""),
        (["attention=gqa", "aa=true"], ""),
        (["attention=gqa", "budget=[0.5]"], ""),
    ],
)
def test_a_study_of_one_arm_says_before_it_runs_that_it_compares_nothing(tmp_path: Path, asked: list[str], pair: str):
    bill = " ".join(ablate(tmp_path, *asked, "dry_run=true").out.split())
    line = f"one arm: its seeds show their noise, and nothing is compared; to compare, give several values: {pair}"
    assert (line in bill) if pair else ("one arm" not in bill)


def test_a_dry_run_tells_the_bill_and_leaves_nothing(tmp_path: Path):
    done = ablate(tmp_path, "attention=mha,gqa,mqa", "dry_run=true")
    assert done.status in COMPARED
    assert "attention=mqa is attention=gqa here: left out" in done.out  # 2 heads
    assert "4 cells, seeds 0, 1: 0 done, 4 to run" in done.out
    assert "  arm, * baseline " in done.out
    assert "parameters against attention=mha: attention=gqa -" in done.out
    assert not (tmp_path / "ablations").exists()


def test_the_centre_of_a_star_is_the_baseline_and_its_words_are_said_once(tmp_path: Path):
    star = [AXIS, "norm=rmsnorm,layernorm", "design=star", "dry_run=true"]
    done = ablate(tmp_path, *star)
    assert done.status == 0, done.err
    assert done.out.count("attention=mha norm=rmsnorm") == 1
    assert "  baseline *" in done.out
    assert "baseline: attention=mha norm=rmsnorm" in done.out
    other = ablate(tmp_path, *star, "baseline=gqa").out
    assert "attention=gqa *" in other
    assert "baseline:" not in other


def test_planning_reads_the_code_once_for_all_cells_of_the_same_parts(tmp_path: Path):
    with mock.patch("gptlab.runs.study_folder.fingerprint", wraps=study_folder_module.fingerprint) as asked:
        done = ablate(tmp_path, "model.lr=1e-3,2e-3,3e-3", "seeds=4", "dry_run=true")
        assert "12 cells, seeds 0, 1, 2, 3: 0 done, 12 to run" in done.out
        assert asked.call_count == 1
        ablate(tmp_path, AXIS, "norm=rmsnorm,layernorm", "seeds=4", "dry_run=true")
        assert asked.call_count == 1 + 2  # both attentions are of one module, the norms are not


def test_arms_are_made_alike_and_it_is_said(tmp_path: Path):
    by_params = ablate(tmp_path, AXIS, "model.width=64", "match=params", "dry_run=true").out
    assert "so that parameters match" in by_params
    by_flops = ablate(tmp_path, AXIS, "match=flops", "dry_run=true", "steps=400").out
    assert "so that training FLOPs match" in by_flops
    by_tokens = ablate(tmp_path, "batch_size=8,16", "match=tokens", "dry_run=true").out
    assert "batch_size=8: steps=24, so that tokens match" in by_tokens


# -- runs


def test_a_study_runs_all_and_then_nothing(pool: Path):
    study = study_folder(pool)
    before = [event for event in study.read_events() if event["key"]]
    assert sorted(trained(study)) == sorted(study.plan.cells)
    assert len(before) >= 4
    done = ablate(pool, AXIS)
    assert "4 done, 0 to run" in done.out
    assert [event for event in study.read_events() if event["key"]] == before
    for name in ("results.csv", "comparison.json", "report.md", "report.html", "report.png", "table.tex"):
        assert (study.path / name).stat().st_size > 0


def test_a_report_has_the_spec_of_wandbs_or_says_which_extra_it_takes(pool: Path, tmp_path: Path):
    pytest.importorskip("wandb_workspaces", reason="the extra `report` is not installed")
    shutil.copytree(pool, tmp_path / "pool")
    study = study_folder(tmp_path / "pool").path
    done = program("-m gptlab", "report", str(study))
    assert (done.status, done.err) == (0, "")
    assert json.loads((study / "report.spec.json").read_text())["blocks"]
    (study / "report.spec.json").unlink()
    hidden = ("wandb_workspaces", "wandb_workspaces.reports", "wandb_workspaces.reports.v2")
    with mock.patch.dict(sys.modules, dict.fromkeys(hidden)):
        done = program("-m gptlab", "report", str(study))
    line = "no report.spec.json: a W&B Report needs wandb-workspaces: pip install 'wandb-workspaces<0.5'\n"
    assert (done.status, done.err) == (0, line)
    assert not (study / "report.spec.json").exists()


def test_a_cell_is_an_ordinary_run(pool: Path):
    study = study_folder(pool)
    key = next(key for key in study.plan.cells if "gqa" in key and "-s1-" in key)
    plain = program("train.py", *study.read_cell(key)["overrides"])
    assert plain.status in COMPARED, plain.err
    assert plain.folder.name.startswith(key)
    assert summary(plain.folder)["val/loss"] == summary(study.pool / key)["val/loss"]
    shutil.rmtree(plain.folder)


@pytest.mark.thorough
def test_more_seeds_and_other_studies_take_what_is_there(pool: Path, tmp_path: Path):
    shutil.copytree(pool, tmp_path / "pool")
    more = ablate(tmp_path / "pool", AXIS, "seeds=3")
    assert "4 done, 2 to run" in more.out
    assert "look 1 of 3, alpha .025 of .05 spent" in " ".join(more.out.split())
    other = ablate(tmp_path / "pool", "attention=gqa,swa", "seeds=[0,1]")
    assert "2 done, 2 to run" in other.out
    never = ablate(tmp_path / "pool", AXIS, "reuse=never", "seeds=1", "name=anew", "dry_run=true")
    assert "0 done, 2 to run" in never.out


def test_a_name_is_of_one_question(pool: Path, tmp_path: Path):
    shutil.copytree(pool, tmp_path / "pool")
    (tmp_path / "pool" / "ablations").rename(tmp_path / "old")
    assert ablate(tmp_path / "pool", AXIS, "name=mine").status in COMPARED
    done = ablate(tmp_path / "pool", "norm=rmsnorm,layernorm", "name=mine")
    assert done.status == 2
    assert "name=mine is another question" in done.err


def test_runs_of_other_code_are_taken_only_if_asked(pool: Path, tmp_path: Path):
    shutil.copytree(pool, tmp_path / "pool")
    for run in (tmp_path / "pool" / "runs").iterdir():
        for name in ("run.json", "summary.json"):
            facts = json.loads((run / name).read_text())
            write_atomically(run / name, json.dumps({**facts, "code": "00000000"}))
    assert "0 done, 4 to run" in ablate(tmp_path / "pool", AXIS, "dry_run=true").out
    done = ablate(tmp_path / "pool", AXIS, "reuse=any_code", "name=old")
    assert "4 done, 0 to run" in done.out
    assert "4 runs are of other code" in " ".join(done.out.split())


@pytest.mark.thorough
def test_a_baseline_that_is_run_twice_says_the_same(tmp_path: Path):
    done = ablate(tmp_path, AXIS, "aa=true", "seeds=2", "budget=[0.5,2]", "confirm=2")
    assert done.status in COMPARED, done.err
    study = study_folder(tmp_path)
    found = losses(study)
    assert all(found["attention=mha", seed, "twin"] == found["attention=mha", seed, "arm"] for seed in (0, 1))
    assert len({run.folder for run in compare_study_folder(study.path).runs}) == 2 * 2 + 2 + 4 + 4
    stratum = compare_study_folder(study.path).strata[0]
    noise, confirmed = stratum.comparisons[0].noise, stratum.confirmed
    assert noise is not None
    assert noise.twin == 0
    assert confirmed is not None
    assert confirmed.contrasts[0].seeds == (2, 3)
    assert stratum.exchange is not None


@pytest.mark.thorough
def test_learning_rates_are_multiples_of_each_arms_own_and_go_beyond_an_edge(tmp_path: Path):
    done = ablate(tmp_path, "optimizer=adamw,muon", "tune=grid", "lr_grid=[0.05,0.5]", "seeds=2", "budget=[2]")
    assert done.status in COMPARED, done.err
    found = {(run.arm, run.role, run.budget, run.lr) for run in compare_study_folder(study_folder(tmp_path).path).runs}
    tunings = compare_study_folder(study_folder(tmp_path).path).strata[0].tunings
    (adamw, muon) = (sorted(tuning.losses) for tuning in tunings)
    assert [rate / adamw[0] for rate in adamw] == pytest.approx([10**n for n in range(len(adamw))])
    assert muon[:2] == pytest.approx([5 * rate for rate in adamw[:2]])  # Muon's own rate is five times AdamW's
    assert len(adamw) > 2  # few steps want the highest rate, which lies at the edge
    assert "beyond it (1 of at most 2)" in done.out
    assert ("optimizer=adamw", "budget", 2.0, tunings[0].best) in found


@pytest.mark.thorough
def test_sizes_are_compared_each_with_its_own_baseline(tmp_path: Path):
    smaller = [one for one in words(tmp_path) if not one.startswith(("model.layers", "model="))]
    done = program("ablate.py", *smaller, "model=nano,micro,mini", AXIS)
    assert done.status in COMPARED, done.err
    found = compare_study_folder(study_folder(tmp_path).path)
    assert [stratum.size for stratum in found.strata] == ["nano", "micro", "mini"]
    assert {stratum.baseline for stratum in found.strata} == {"attention=mha"}
    assert {(one.arm, one.against) for one in found.scalings} == {
        (arm, cost) for arm in ("attention=gqa", "attention=mha") for cost in ("params", "flops")
    }


@pytest.mark.thorough
def test_arms_of_one_time_say_what_they_took(tmp_path: Path):
    done = ablate(tmp_path, "mlp=swiglu,relu", "match=time", "seeds=1", "steps=60")
    assert done.status in COMPARED, done.err
    study = study_folder(tmp_path)
    before = study.plan.settled
    assert any("training time against mlp=swiglu" in line for line in compare_study_folder(study.path).mismatch)
    assert "2 done, 0 to run" in ablate(tmp_path, "mlp=swiglu,relu", "match=time", "seeds=1", "steps=60").out
    assert study.plan.settled == before


# -- what goes wrong


def test_a_cell_that_diverges_is_a_row_and_the_rest_goes_on(tmp_path: Path):
    done = ablate(tmp_path, "optimizer.lr=1e-3,1e30", "clip=null")
    assert done.status == 4
    runs = {(run.arm, run.seed): run for run in compare_study_folder(study_folder(tmp_path).path).runs}
    assert [runs["optimizer.lr=1e+30", seed].status for seed in (0, 1)] == ["diverged"] * 2
    assert [runs["optimizer.lr=0.001", seed].status for seed in (0, 1)] == ["finished"] * 2
    again = ablate(tmp_path, "optimizer.lr=1e-3,1e30", "clip=null")
    assert "4 done, 0 to run" in again.out
    assert again.status == 4


def test_a_cell_that_breaks_is_a_row_with_its_log_and_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(recipe: Any, *_: Any) -> None:
        raise RuntimeError(f"planted in seed {recipe.config['seed']}")

    with monkeypatch.context() as patch:
        true = cells.train_recipe
        patch.setattr(
            cells, "train_recipe", lambda r, *a: broken(r) if r.choices["attention"] == "gqa" else true(r, *a)
        )
        done = ablate(tmp_path, AXIS, "seeds=1")
    assert done.status == 1
    (bad,) = [run for run in compare_study_folder(study_folder(tmp_path).path).runs if run.status == "failed"]
    assert bad.reason == "RuntimeError: planted in seed 0"
    assert "Traceback" in Path(bad.log).read_text()
    assert "planted in seed 0" in done.out
    again = ablate(tmp_path, AXIS, "seeds=1")
    assert (again.status in COMPARED, "1 done, 1 to run" in again.out) == (True, True)


def test_out_of_memory_is_tried_once_more_in_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tried: list[int] = []
    true = cells.train_recipe

    def small(recipe: Any, *more: Any) -> None:
        tried.append(recipe.config["accumulate"])
        if recipe.config["accumulate"] == 1:
            raise torch.OutOfMemoryError("planted")
        true(recipe, *more)

    monkeypatch.setattr(cells, "train_recipe", small)
    assert ablate(tmp_path, AXIS, "seeds=1").status in COMPARED
    assert tried == [1, 2, 1, 2]
    monkeypatch.setattr(cells, "train_recipe", true)
    assert "2 done, 0 to run" in ablate(tmp_path, AXIS, "seeds=1").out


def test_a_summary_that_is_not_whole_is_of_no_run(pool: Path, tmp_path: Path):
    shutil.copytree(pool, tmp_path / "pool")
    study = study_folder(tmp_path / "pool")
    broken = study.pool / next(key for key in study.plan.cells if "gqa" in key)
    (broken / "summary.json").write_text('{"status": "fini')
    (bad,) = [run for run in compare_study_folder(study.path).runs if run.status != "finished"]
    assert "not whole" in bad.reason
    assert program("-m gptlab", "runs", "--outputs", str(tmp_path / "pool")).status == 0
    again = ablate(tmp_path / "pool", AXIS)
    assert (again.status in COMPARED, "3 done, 1 to run" in again.out) == (True, True)
    assert losses(study) == losses(study_folder(pool))
    (study.path / "study.json").write_text("{")
    assert "remove it" in ablate(tmp_path / "pool", AXIS).err


# -- locks and kills


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path):
    path = tmp_path / "a.lock"
    hold = (
        "import sys, time; from pathlib import Path; from gptlab.runs.study_folder import lock_or_owner\n"
        f"with lock_or_owner(Path({str(path)!r})):\n    print('held', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "held\n"
    with lock_or_owner(path) as by:
        assert f"process {owner.pid}" in str(by)
    assert is_held(path)
    owner.kill()
    owner.communicate()
    assert not is_held(path)
    with lock_or_owner(path) as by:
        assert by is None


def test_a_line_that_a_kill_cut_short_costs_one_event(tmp_path: Path):
    study = StudyFolder(tmp_path / "ablations" / "x")
    study.path.mkdir(parents=True)
    study.record_event("a", "finished")
    with (study.path / "ledger.jsonl").open("a") as file:
        file.write('{"at": 1, "key": "b", "sta\n')
    study.record_event("c", "running")
    assert {key: state.status for key, state in study.read_states().items()} == {"a": "finished", "c": "stopped"}


@pytest.mark.thorough
def test_a_study_killed_at_random_ends_as_if_it_never_was(pool: Path, tmp_path: Path):
    draws = random.Random(4)
    for kill in range(3):
        process = start(tmp_path, AXIS, "steps=12")
        wanted = kill + 1
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
            if len({event["key"] for event in events(tmp_path)}) >= wanted:
                time.sleep(draws.random())
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert ablate(tmp_path, AXIS).status in COMPARED
    assert losses(study_folder(tmp_path)) == losses(study_folder(pool))
    assert verdicts(study_folder(tmp_path)) == verdicts(study_folder(pool))


@pytest.mark.thorough
def test_two_processes_on_one_study_run_each_cell_once(pool: Path, tmp_path: Path):
    both = [start(tmp_path, AXIS) for _ in range(2)]
    for process in both:
        assert "verdict" in ended(process).lower()
    assert sorted(trained(study_folder(tmp_path))) == sorted(study_folder(pool).plan.cells)
    assert losses(study_folder(tmp_path)) == losses(study_folder(pool))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "launcher",
    [
        ("joblib", "hydra.launcher.n_jobs=1"),
        pytest.param(("joblib", "hydra.launcher.n_jobs=2"), marks=pytest.mark.slow),
        pytest.param(("submitit_local",), marks=pytest.mark.slow),
        ("ray", "+hydra.launcher.ray.init.num_cpus=2"),
    ],
    ids=" ".join,
)
def test_every_launcher_gives_the_same_table(pool: Path, tmp_path: Path, launcher: tuple[str, ...]):
    pytest.importorskip(
        {"submitit_local": "submitit"}.get(launcher[0], launcher[0]), reason="pip install gptlab[parallel]"
    )
    ended(start(tmp_path, AXIS, f"hydra/launcher={launcher[0]}", *launcher[1:]))
    assert losses(study_folder(tmp_path)) == losses(study_folder(pool))
    assert verdicts(study_folder(tmp_path)) == verdicts(study_folder(pool))


def test_every_job_has_a_gpu_of_its_own_as_long_as_there_are_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sharing, "GPU_LOCKS", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    taken = [sharing.claim_gpu(sharing.list_gpus(), tmp_path) for _ in range(3)]
    assert taken[:2] == ["2", "5"]
    assert taken[2] in ("2", "5")
    for file in sharing.GPU_LOCKS:
        file.close()


@pytest.mark.slow
def test_a_cell_of_two_devices_is_a_train_py_of_its_own(pool: Path, tmp_path: Path):
    ended(start(tmp_path, AXIS, "seeds=1", "trainer=ddp", "trainer.devices=2"))
    here, there = losses(study_folder(tmp_path)), losses(study_folder(pool))
    assert here == pytest.approx({key: there[key] for key in here}, abs=1e-5)


# -- from another terminal


def test_status_and_compare_read_the_folder_alone(pool: Path):
    study = study_folder(pool)
    told = program("-m gptlab", "status", str(study.path)).out
    assert "4 of 4 done" in told
    before = (study.path / "comparison.json").read_text()
    (study.path / "comparison.json").unlink()
    assert program("-m gptlab", "compare", str(study.path)).status == 0
    assert (study.path / "comparison.json").read_text() == before


@pytest.mark.parametrize(
    ("option", "asks"), [(["--baseline", "gqa"], "the others with attention=gqa"), (["--pairs"], "all pairs")]
)
def test_what_a_study_did_not_ask_is_exploratory_and_leaves_its_files(pool: Path, option: list[str], asks: str):
    study = study_folder(pool)
    before = {path.name: path.read_bytes() for path in study.path.glob("*.*")}
    done = program("-m gptlab", "compare", str(study.path), *option)
    assert f"The study did not ask to compare {asks}: these verdicts are exploratory." in " ".join(done.out.split())
    assert {path.name: path.read_bytes() for path in study.path.glob("*.*")} == before
    told = program("-m gptlab", "compare", str(study.path), *option, "--json")
    assert [verdict["exploratory"] for verdict in json.loads(told.out.splitlines()[-1])["verdicts"]] == [True]


def test_a_study_that_was_copied_away_from_its_runs_says_that_they_are_gone(pool: Path, tmp_path: Path):
    shutil.copytree(study_folder(pool).path, tmp_path / "away")
    said = program("-m gptlab", "status", str(tmp_path / "away")).out
    assert said.count("its run is gone:") == 4
    assert "loss nan" not in said


def test_runs_that_no_study_made_are_compared_by_what_they_differ_in(pool: Path, tmp_path: Path):
    runs = sorted(str(run) for run in (pool / "runs").iterdir())
    done = program("-m gptlab", "compare", *runs, "--to", str(tmp_path / "here"), "--baseline", "mha")
    assert done.status in COMPARED, done.err
    assert "gqa less mha" in done.out
    assert (tmp_path / "here" / "results.csv").exists()
