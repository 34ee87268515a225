"""Laws of arms by name: a file of overrides stands in place of axes, and is what the study asks."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from tiny_runs import COMPARED, program, tiny

from gptlab.ablation.arms.typed import quote_typed_arms
from gptlab.report.findings import compare_study_folder
from gptlab.runs.record import read_recipe

ARMS = "plain: []\ngated: [attention.gate=true, model.lr=2e-3]\nbetas: ['optimizer.betas=[0.9,0.95]', mlp=gelu]\n"


def test_arms_of_a_file_are_compared_by_their_names(tmp_path: Path):
    (tmp_path / "arms.yaml").write_text(ARMS)
    words = [*tiny(tmp_path), f"arms={tmp_path}/arms.yaml", "seeds=2", "timing=0", "jobs=1"]
    done = program("ablate.py", *words)
    assert done.status in COMPARED, done.err
    (folder,) = (tmp_path / "ablations").iterdir()
    assert folder.name.startswith("plain_gated_betas-")
    comparison = compare_study_folder(folder).strata[0].comparisons[0]
    assert comparison.baseline == "plain"  # the arm that changes nothing
    assert {contrast.arm for contrast in comparison.contrasts} == {"gated", "betas"}
    again = program("ablate.py", *words, "dry_run=true")
    assert "6 done, 0 to run" in again.out
    (tmp_path / "arms.yaml").write_text(ARMS.replace("2e-3", "1e-3"))  # another question, and another study
    assert "4 done, 2 to run" in program("ablate.py", *words, "dry_run=true").out


@pytest.mark.thorough
def test_arms_are_typed_on_the_command_line_and_compared_by_their_names(tmp_path: Path):
    betas = "+arms.betas=[optimizer.betas=[0.9,0.95],mlp=gelu]"
    words = [*tiny(tmp_path), betas, "+arms.plain=[]", "+arms.gated=[attention.gate=true,optimizer.lr=2e-3]"]
    done = program("ablate.py", *words, "seeds=2", "timing=0", "jobs=1")
    assert done.status in COMPARED, done.err
    (folder,) = (tmp_path / "ablations").iterdir()
    findings = compare_study_folder(folder)
    comparison = findings.strata[0].comparisons[0]
    assert comparison.baseline == "plain"  # the arm that changes nothing
    assert {contrast.arm for contrast in comparison.contrasts} == {"betas", "gated"}
    saved = {run.arm: read_recipe(tmp_path / "runs" / run.folder).config for run in findings.runs}
    assert saved["gated"]["optimizer"]["lr"] == 2e-3
    assert saved["betas"]["optimizer"]["betas"] == [0.9, 0.95]
    file = "\n".join(["betas: ['optimizer.betas=[0.9,0.95]', mlp=gelu]", "plain: []"])
    (tmp_path / "arms.yaml").write_text(f"{file}\ngated: [attention.gate=true, optimizer.lr=2e-3]\n")
    of_file = program("ablate.py", *tiny(tmp_path), f"arms={tmp_path}/arms.yaml", "seeds=2", "dry_run=true")
    assert "6 done, 0 to run" in of_file.out  # the same study


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("[]", []),
        ("[mlp=gelu]", ["mlp=gelu"]),
        ("[mlp=gelu, clip=0.5]", ["mlp=gelu", "clip=0.5"]),
        ("['mlp=gelu',\"clip=0.5\"]", ["mlp=gelu", "clip=0.5"]),
        ("[optimizer.betas=[0.9,0.95],clip=null]", ["optimizer.betas=[0.9,0.95]", "clip=null"]),
        ("[model={width: 16, heads: 2}]", ["model={width: 16, heads: 2}"]),
        ("[sample.prompt='a, [b']", ["sample.prompt='a, [b'"]),
        (r"""["sample.prompt='say \"x\"'",clip=1]""", ["""sample.prompt='say "x"'""", "clip=1"]),
        (r"[sample.prompt='it\'s, so',clip=1]", [r"sample.prompt='it\'s, so'", "clip=1"]),
        (r"[sample.prompt='C:\\',clip=1]", [r"sample.prompt='C:\\'", "clip=1"]),
    ],
)
def test_hydra_reads_the_overrides_of_an_arm_as_they_were_typed(typed: str, read: list[str]):
    (word,) = quote_typed_arms([f"+arms.one={typed}"])
    (override,) = OverridesParser.create().parse_overrides([word])
    assert [str(getattr(item, "text", item)) for item in override.value()] == read  # type: ignore[union-attr]


def test_one_arm_alone_is_compared_with_the_defaults(tmp_path: Path):
    done = program("ablate.py", *tiny(tmp_path), "+arms.gated=[attention.gate=true]", "dry_run=true")
    assert done.status == 0, done.err
    assert "  baseline * " in done.out
    (tmp_path / "arms.yaml").write_text("wide: [mlp.hidden=64]\n")
    both = ["+arms.gated=[attention.gate=true]", f"arms={tmp_path}/arms.yaml", "baseline=wide", "dry_run=true"]
    done = program("ablate.py", *tiny(tmp_path), *both)
    assert done.status == 0, done.err
    assert "  wide * " in done.out
    assert "  gated " in done.out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["+arms.a=[gelu]"], "+arms.a=[gelu]: gelu is no override; write knob=value"),
        (["+arms.a=mlp=gelu"], "+arms.a=mlp=gelu is no list of overrides; write +arms.gated=["),
        (["+arms.a=[mlp=gelu"], "is no list of overrides"),
        (["+arms.a=[model.lr=[1]"], "+arms.a=[model.lr=[1]: a ] is missing; mend the quotes or brackets"),
        (["+arms.a=[model.lr=1)]"], "a ) closes nothing; mend the brackets"),
        (["+arms.a"], "+arms.a is no list of overrides"),
        (["+arms.=[mlp=gelu]"], "'' is no name; begin with a letter"),
        (["+arms.a.b=[mlp=gelu]"], "'a.b' is no name; begin with a letter"),
        (["+arms.a=[mlp=gelu]", "+arms.a=[mlp=geglu]"], "an arm a is given twice; give each its own name"),
        (["+arms.a=[mlp=gelu,mlp=geglu]"], "mlp is given 2 times; give it once"),
        (["+arms.a=[attention.gat=true]"], "a: attention.gat: no such key; did you mean attention.gate?"),
        (["+arms.a=[attention.gate=maybe]"], "a: attention.gate='maybe' is not true or false or one of head"),
        (["+arms.a=[seeds=5]"], "a: seeds=5 is of the whole study; give it beside the arms"),
        (["+arms.a=[mlp=glob(*)]"], "a: mlp=glob(*) has several values; an arm has one, so name an arm for each"),
        (["+arms.a=[mlp=gelu]", "attention=mha,gqa"], "a study of named arms has arms of its own; leave attention out"),
        (["+arms.a=[mlp=gelu]", "baseline=b"], "baseline=b is no arm of this study; arms: baseline, a"),
        (["tasks={copy:[data=copy]}"], 'cannot be read; quote each override in it for hydra too, as in ["data=copy"]'),
    ],
)
def test_what_is_wrong_with_a_typed_arm_is_one_line(tmp_path: Path, words: list[str], line: str):
    done = program("ablate.py", *tiny(tmp_path), *words, "dry_run=true")
    assert (done.status, done.err.count("\n")) == (2, 1), done.err
    assert line in done.err
    assert not (tmp_path / "ablations").exists()


def test_arms_are_of_a_study_and_not_of_a_run(tmp_path: Path):
    done = program("train.py", *tiny(tmp_path), "+arms.a=[mlp=gelu]")
    assert (done.status, done.err.count("\n")) == (2, 1), done.err
    assert "arms are of a study and not of a run; say python ablate.py +arms.a=[mlp=gelu]" in done.err


def test_several_grids_are_one_study_about_one_baseline_without_what_is_excluded(tmp_path: Path):
    grids = 'grids=["attention=mha,gqa,mqa","norm=rmsnorm,layernorm mlp=swiglu,gelu"]'
    exclude = 'exclude=["norm=layernorm mlp=gelu"]'
    done = program("ablate.py", *tiny(tmp_path), "model.heads=4", grids, exclude, "dry_run=true")
    assert done.status == 0, done.err
    arms = [line.split()[0] for line in done.out.splitlines() if line.startswith("  ") and " 3  " in line]
    assert arms == ["baseline", "attention=gqa", "attention=mqa", "mlp=gelu", "norm=layernorm"]
    assert "left out by exclude: norm=layernorm mlp=gelu" in done.out


def test_excluded_points_of_a_grid_are_not_composed(tmp_path: Path):
    axes = ["attention=mha,gqa", "attention.kv_heads=4,2", "model.heads=4"]  # mha takes one number alone
    words = [*tiny(tmp_path), *axes, 'exclude=["attention=mha attention.kv_heads=2"]', "dry_run=true"]
    done = program("ablate.py", *words)
    assert done.status == 0, done.err
    assert "left out by exclude: attention=mha attention.kv_heads=2" in done.out


@pytest.mark.thorough
def test_a_whole_study_is_committed_in_a_file_and_run_by_its_name(tmp_path: Path):
    words = ["experiment=attention_study", "model.width=16", f"outputs={tmp_path}", "dry_run=true"]
    done = program("ablate.py", *words)
    assert done.status == 0, done.err
    assert "27 cells" in done.out
    assert "looks at 3, 5 seeds, from one to the next" in done.out
    typed = program("ablate.py", *words, "looks=[2]", "until=seeds", "seeds=2")  # what is typed wins
    assert "18 cells" in typed.out
    assert "looks at 2 seeds: look 1 of 1" in typed.out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["exclude=[gqa2]", "attention=mha,gqa"],
            "exclude=gqa2: no arm has it; write an arm's name, or some of its overrides",
        ),
        (["grids=[attention]"], "grids: attention lists no values; write them out, as in attention=gqa,swa"),
        (["grids=['attention=glob(*)']"], "lists no values; write them out"),
        (["grids=['']"], "a grid without axes"),
        (["grids=['attention=mha']"], "every value is the default, so nothing is compared"),
        (["grids=['mlp=gelu']", "attention=mha,gqa"], "grids has arms of its own; leave attention out"),
        (["grids=['mlp=gelu']", "design=star"], "grids does not go with a study or a design that has arms of its own"),
    ],
)
def test_what_is_wrong_with_grids_and_exclusions_is_one_line(tmp_path: Path, words: list[str], line: str):
    done = program("ablate.py", *tiny(tmp_path), *words)
    assert (done.status, done.err.count("\n")) == (2, 1), done.err
    assert line in done.err


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        (None, [], "cannot be read: No such file or directory; give a YAML file of lists of overrides"),
        ("- a\n", [], "names none; write a name and its overrides a line"),
        ("a: mlp=gelu\n", [], "a: mlp=gelu is no list of overrides"),
        ("a: [gelu]\n", [], "a: ['gelu'] is no list of overrides"),
        ("a: [", [], "no YAML"),
        ("a: []\na: [mlp=gelu]\n", [], "has a name twice; give each its own"),
        ("a: []\nb: [attention=gqua]\n", [], "attention=gqua: no such option"),
        ("a: []\nb: [mlp.nothing=1]\n", [], "b: mlp.nothing: no such key"),
        (ARMS, ["attention=mha,gqa"], "arms=FILE has arms of its own; leave attention out"),
        (ARMS, ["design=star"], "does not go with a study or a design that has arms of its own"),
    ],
)
def test_what_is_wrong_with_a_file_of_arms_is_one_line(tmp_path: Path, text: str | None, words: list[str], line: str):
    if text is not None:
        (tmp_path / "arms.yaml").write_text(text)
    done = program("ablate.py", *tiny(tmp_path), f"arms={tmp_path}/arms.yaml", *words)
    assert (done.status, done.err.count("\n")) == (2, 1), done.err
    assert line in done.err
    assert not (tmp_path / "ablations").exists()
