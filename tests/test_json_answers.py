"""Laws of the door for programs: one JSON object on stdout, all else on stderr, exit statuses that mean something."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import choices
from forked_process import run_forked
from tiny_runs import ROOT, TINY

import gptlab
from gptlab.__main__ import app
from gptlab.commands.explain import list_slots
from gptlab.errors import Refused
from gptlab.report.render.answer import choose_status
from gptlab.stats.study_plan import StudyPlan

REFUSED = "error: /dev/null: File exists; check that path and its rights\n"  # before the object is written
STUDY = ["attention=mha,gqa", "timing=0", "seeds=2"]


def ask(*words: str, cwd: Path = ROOT) -> tuple[int, dict[str, Any], str]:
    """The exit status, the object and stderr of a command, in a process of its own."""
    done = run_forked(*words, timeout=240, cwd=cwd)
    assert len(done.stdout.splitlines()) == 1, done.stdout
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of these tests live."""
    return tmp_path_factory.mktemp("door")


@pytest.fixture(scope="module")
def study(pool: Path) -> tuple[int, dict[str, Any], str]:
    """What a tiny study of two seeds answers."""
    return ask("ablate.py", *TINY, f"outputs={pool}", *STUDY, "output=json")


def test_a_run_answers_with_its_summary(pool: Path):
    status, answer, said = ask("train.py", *TINY, f"outputs={pool}", "output=json")
    assert (status, answer["exit"], answer["error"]) == (0, 0, None)
    assert answer["summary"] == json.loads((Path(answer["run"]) / "summary.json").read_text())
    assert "decoder" in said  # what people read is on stderr


@pytest.mark.parametrize(
    ("program", "words", "line"),
    [
        ("train.py", ["attention=gqua"], "attention=gqua: no such option"),
        ("train.py", ["steps=0"], "steps=0 is not positive"),
        ("ablate.py", ["seeds=0"], "seeds=0 asks for none"),
        ("ablate.py", ["controls=true", "budget=[0.95]"], "controls=true runs budget=[0.95, 1.05] itself"),
    ],
)
def test_what_is_refused_answers_with_the_line(program: str, words: list[str], line: str):
    status, answer, said = ask(program, *words, "output=json")
    assert (status, answer["exit"]) == (2, 2)
    assert answer["error"].startswith(line)
    assert answer["error"] in said


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("where", "status", "line"),
    [
        (">&-", 2, "error: stdout is closed, where --json writes its object; leave one of them open\n"),
        (">/dev/full", 2, "error: the object of --json cannot be written to stdout: No space left on device\n"),
        ("| true", 141, ""),
    ],
)
def test_an_object_that_nobody_can_read_is_told_in_one_line(where: str, status: int, line: str):
    script = f"set -o pipefail; {shlex.quote(sys.executable)} -m gptlab schema --to /dev/null --json {where}"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.removeprefix(REFUSED)) == (status, "", line)


@pytest.mark.thorough
def test_a_study_that_trains_nothing_answers_with_its_folder_and_no_verdicts(tmp_path: Path):
    words = [*TINY, f"outputs={tmp_path}", "study=size", "seeds=1", "readout=tied,untied", "output=json"]
    planned, done = (ask("ablate.py", *words, *more) for more in (["dry_run=true"], []))
    assert (planned[1]["cells"], planned[1]["to_run"]) == (1, 1)
    status, answer, _ = done
    assert (status, answer["verdicts"], answer["blocks"]) == (0, [], {"finished": 1})
    assert "readout=untied" in (Path(answer["folder"]) / "results.csv").read_text()
    status, judged, _ = ask("-m", "gptlab", "judge", answer["folder"], "--json")
    assert (status, "trained nothing, so it has no verdicts" in judged["error"]) == (2, True)


@pytest.mark.thorough
def test_a_study_answers_with_its_verdicts_and_ends_as_they_are(study: tuple[int, dict[str, Any], str]):
    status, answer, _ = study
    (verdict,) = answer["verdicts"]
    assert (verdict["arm"], verdict["against"], verdict["seeds"]) == ("attention=gqa", "attention=mha", [0, 1])
    assert verdict["low"] <= verdict["difference"] <= verdict["high"]
    assert status == answer["exit"] == (3 if verdict["verdict"] == "not resolved" else 0)
    assert answer["runs"] == {"finished": 4}


def test_every_reader_of_a_study_answers(study: tuple[int, dict[str, Any], str], pool: Path):
    folder = study[1]["folder"]
    status, judged, _ = ask("-m", "gptlab", "judge", folder, "--json")
    assert (status, judged["verdicts"]) == (study[0], study[1]["verdicts"])
    _, cells, _ = ask("-m", "gptlab", "status", folder, "--json")
    assert [(cell["arm"], cell["state"]) for cell in cells["cells"]].count(("attention=gqa", "finished")) == 2
    _, runs, _ = ask("-m", "gptlab", "runs", "--outputs", str(pool), "--json")
    losses = [run["summary"]["val/loss"] for run in runs["runs"]]
    assert losses == sorted(losses)


@pytest.mark.thorough
def test_every_command_names_paths_from_the_working_folder(study: tuple[int, dict[str, Any], str], pool: Path):
    folder = Path(study[1]["folder"])
    assert folder.is_absolute()  # it was made from a folder that it does not lie below
    asked = [
        ("folder", [f"{ROOT}/ablate.py", *TINY, f"outputs={pool}", *STUDY, "output=json"]),
        ("study", ["-m", "gptlab", "status", str(folder), "--json"]),
        ("page", ["-m", "gptlab", "report", str(folder), "--json"]),
        ("run", [f"{ROOT}/train.py", *TINY, f"outputs={pool}", "seed=5", "output=json"]),
    ]
    told = {key: ask(*words, cwd=pool)[1][key] for key, words in asked}
    run = told.pop("run")
    inside = str(folder.relative_to(pool))
    assert told == {"folder": inside, "study": inside, "page": f"{inside}/report.html"}
    assert run.startswith("runs/nano-")
    (pool / run / "summary.json").unlink()
    _, sampled, said = ask("-m", "gptlab", "sample", str(pool / run), "--length=1", "--json", cwd=pool)
    assert sampled["unfinished"][0]["folder"] == run
    assert f"resume={run}" in said
    _, runs, _ = ask("-m", "gptlab", "runs", "--outputs", str(pool), "--json", cwd=pool)
    assert run in [entry["folder"] for entry in runs["runs"]]
    shutil.rmtree(pool / run)  # other tests look at all runs of the pool


def test_runs_of_one_arm_are_no_question_that_was_decided(study: tuple[int, dict[str, Any], str], pool: Path):
    gqa = sorted(map(str, (pool / "runs").glob("*gqa*")))
    assert len(gqa) == 2
    status, judged, said = ask("-m", "gptlab", "judge", *gqa, "--json")
    assert (status, judged["exit"]) == (2, 2)
    assert judged["error"].endswith("one arm, so there is nothing to judge; give runs of two arms")
    assert said.count("\n") == 1


class Fake:
    """Findings as far as the exit status looks at them."""

    def __init__(self, verdicts: list[str], statuses: list[str]) -> None:
        contrasts = [
            type("Contrast", (), {"arm": str(arm), "verdict": verdict}) for arm, verdict in enumerate(verdicts)
        ]
        arms = [type("Arm", (), {"arm": "0", "diverged": statuses.count("diverged")})]
        comparison = type("Comparison", (), {"baseline": "base", "contrasts": contrasts, "arms": arms})
        self.strata = [type("Stratum", (), {"comparisons": [comparison], "confirmed": None})]
        self.plan = StudyPlan(study="x")
        self.runs = [type("Run", (), {"status": status}) for status in statuses]


@pytest.mark.parametrize(
    ("verdicts", "statuses", "status"),
    [
        (["better", "equivalent", "worse"], ["finished"], 0),
        (["better", "not resolved"], ["finished"], 3),
        (["no verdict"], ["finished"], 3),
        (["unstable", "not resolved"], ["finished", "diverged"], 4),
        (["better"], ["finished", "failed"], 1),
        (["better"], ["finished", "missing"], 1),
    ],
)
def test_the_exit_status_is_the_first_that_holds(verdicts: list[str], statuses: list[str], status: int):
    assert choose_status(Fake(verdicts, statuses)) == status  # type: ignore[arg-type]


@pytest.mark.thorough
def test_a_study_from_python_is_the_same_command(study: tuple[int, dict[str, Any], str], pool: Path):
    asked = gptlab.Study(*TINY, *STUDY[:1], timing=0, seeds=2, outputs=str(pool))
    with pytest.raises(Refused, match=r"call run\(\)"):
        _ = asked.verdicts
    assert "not run" in asked._repr_html_()
    assert asked.run().verdicts == study[1]["verdicts"]  # what was there is taken up
    assert asked.folder == Path(study[1]["folder"])
    assert {row["status"] for row in asked.rows()} == {"finished"}
    assert "attention=gqa" in asked._repr_html_()
    assert {run["status"] for run in gptlab.list_runs(pool)} == {"finished"}


@pytest.mark.parametrize("first", ["", "import gptlab.study, gptlab.runs.record", "from gptlab.study.train import *"])
def test_a_study_and_the_runs_are_called_by_their_plain_names(first: str, pool: Path):
    code = f"""
{first}
import gptlab
asked = gptlab.study("attention=gqa,mha", seeds=3)
print(type(asked).__name__, asked.words, gptlab.runs("{pool}/nowhere"))
"""
    done = run_forked("-c", code)
    assert done.stdout == "Study ['attention=gqa,mha', 'seeds=3'] []\n", done.stderr


@pytest.mark.thorough
def test_a_study_from_python_is_refused_in_a_line():
    with pytest.raises(Refused, match="seeds=0 asks for none"):
        gptlab.Study("attention=gqa,mha", seeds=0).run()


def test_the_menu_is_enough_to_write_a_command():
    _, menu, listed = ask("-m", "gptlab", "slots", "--json")
    assert {slot: [*said["choices"]] for slot, said in menu["slots"].items()} == {
        slot: choices(slot) for slot in list_slots()
    }
    assert menu["slots"]["attention"]["default"] == "mha"
    knob = menu["slots"]["attention"]["choices"]["swa"]["knobs"]["window"]
    assert knob["type"] == "an int or null"
    assert knob["about"]
    for part in ("settings", "study"):
        assert all(facts["type"] for key, facts in menu[part].items() if not key.startswith("hydra")), part
    assert "* attention=mha" in listed


def test_what_a_choice_is_answers_with_its_words_knobs_and_costs():
    _, answer, _ = ask("-m", "gptlab", "explain", "attention=gqa", "model=nano", "--json")
    assert answer["files"][1] == "conf/attention/gqa.yaml"
    assert "arXiv:2305.13245" in answer["text"]
    assert answer["knobs"]["window"]["type"] == "an int or null"
    gqa, mha = answer["costs"].values()
    assert gqa["of attention"] < mha["of attention"]
    _, answer, _ = ask("-m", "gptlab", "explain", "norm", "--json")
    assert [*answer["choices"]] == choices("norm")


def test_every_command_answers_with_more_than_its_status():
    text = (ROOT / "docs/programs.md").read_text().partition("| command | keys")[2]
    named = {word for cell in re.findall(r"^\| ([a-z, .]+) \| ", text, re.M) for word in cell.split(", ")}
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    # serve answers in the browser; train and ablate are train.py and ablate.py
    assert commands - {"serve", "train", "ablate"} <= named


def test_a_search_of_the_menu_keeps_what_has_all_words_in_any_case():
    _, found, listed = ask("-m", "gptlab", "slots", "--search", "ROPE arxiv", "--json")
    assert "rope" in found["slots"]["position"]["choices"]
    assert "alibi" not in found["slots"]["position"]["choices"]
    assert "* position=rope" in listed
    _, nothing, listed = ask("-m", "gptlab", "slots", "--search", "zyzzyva", "--json")
    assert not any(nothing[part] for part in ("slots", "settings", "study"))
    assert "nothing has zyzzyva in its name or its line" in listed


@pytest.mark.thorough
def test_every_command_of_the_page_for_programs_exists():
    text = (ROOT / "AGENTS.md").read_text()
    assert text.count("\n") < 80
    words = re.findall(r"python -m gptlab (\w+)", text + (ROOT / "docs/programs.md").read_text())
    assert {*words} <= {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    for line in re.findall(r"^ +python ablate.py (.*?)(?: {2,}#.*)?$", text, re.M):
        status, answer, _ = ask("ablate.py", *shlex.split(line), *({"dry_run=true", "output=json"} - {*line.split()}))
        assert (status, answer["error"]) == (0, None)


@pytest.mark.slow
def test_every_command_of_the_page_for_programs_runs(tmp_path: Path):
    small = [*TINY, "steps=12", "timing=0", "jobs=1", "seeds=2", "looks=[2,3]"]
    text = (ROOT / "AGENTS.md").read_text()
    folder = ""
    for line in re.findall(r"^ +python (.*?)(?: {2,}#.*)?$", text, re.M):
        words = shlex.split(line)
        if words[2:3] == ["new"] or words[1] == "pytest":  # which write into this folder: test_new.py runs both
            continue
        is_study = words[0] == "ablate.py"
        given = [word.partition("=")[0] for word in words]
        more = [word for word in (*small, "output=json") if word.partition("=")[0] not in given]
        if any(word == "until=resolved" for word in words):
            more.remove("seeds=2")
        command = [f"{ROOT}/ablate.py", *words[1:], *more] if is_study else [*words, *({"--json"} - {*words})]
        status, answer, said = ask(*command, cwd=tmp_path)
        if status == 2 and "confirm" in words:  # of arms so small, whatever is accepted is chance
            assert "has accepted no change, so there is nothing to confirm" in said
            continue
        assert status in ((0, 3) if is_study or "confirm" in words else (0,)), (line, said)
        assert answer["error"] is None, line
        folder = answer.get("folder", folder)
    status, answer, _ = ask("-m", "gptlab", "status", folder, "--json", cwd=tmp_path)
    assert (status, answer["error"]) == (0, None)
