"""What hydra offers beside key=value: honoured, or refused in one line that names what to do instead."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from tiny_runs import COMPARED, ROOT, Done, program, tiny, train

from gptlab import compose as wiring
from gptlab.config.command_line import describe_overruled_words, put_options_first, refuse_bad_options
from gptlab.config.typecheck import quote_for_hydra, quote_for_shell, show_value
from gptlab.runs.resume import describe_idle_outputs
from gptlab.training.check import check_recipe

AXES = ["attention=mha,mqa", "dry_run=true"]


def refused(done: Done) -> str:
    """The one line."""
    assert done.status == 2, done.out + done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1, done.err
    return done.err.removeprefix("error: ").rstrip("\n")


def yaml_in(folder: Path, text: str, name: str = "experiment/own.yaml") -> str:
    """Write a YAML below a folder, whose path comes back."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("steps: 7\n\tseed: 1\n", "own.yaml, line 2, column 1: no YAML: found character"),
        ("# @package _global_\nsteps: [7\n", "own.yaml, line 3, column 1: no YAML: expected ',' or ']'"),
        ("steps: 7\n", "experiment=own: its YAML sets nothing here; begin it with the line: # @package _global_"),
        (
            "# @package _global_\nseeds: 2\n",
            "seeds: of a study and not of a run; say python ablate.py experiment=own",
        ),
        ("# @pack\nsteps: 7\n", "# @pack heads a YAML; write # @package _global_"),
        ("# @package _global_\ndefaults: 3\n", "Invalid defaults list in 'experiment/own', defaults must be a list"),
        ("# @package _global_\nx: &a [*a]\n", "a YAML holds itself, by an anchor (&) and its alias (*); write out"),
        ("# @package _global_\n7\n", "a YAML holds int where key: value is meant; mend that file"),
        ("# @package _global_\n- 7\n", "experiment/own.yaml holds a list where key: value is meant; mend that file"),
        (
            "# @package _global_\ndefaults:\n  - attention: gqa\n",
            "a recipe's defaults choose by `override /attention: gqa`, and not by `attention: gqa`",
        ),
        ("# @package _global_\ncompile: off\n", "compile=false is not one of auto, on, off; in a YAML write 'on' and"),
    ],
)
def test_a_yaml_that_cannot_be_used_is_refused(text: str, line: str, tmp_path: Path):
    folder = yaml_in(tmp_path / "conf", text)
    assert line in refused(program("train.py", "--config-dir", folder, *tiny(tmp_path), "experiment=own"))


def test_a_yaml_of_another_encoding_is_refused(tmp_path: Path):
    folder = yaml_in(tmp_path / "conf", "")
    (tmp_path / "conf" / "experiment" / "own.yaml").write_bytes(b"# @package _global_\nname: caf\xe9\n")
    line = refused(program("train.py", "--config-dir", folder, *tiny(tmp_path), "experiment=own"))
    assert line == "a YAML is not UTF-8: byte 0xe9 at offset 29; save it as UTF-8"


@pytest.mark.parametrize("value", ["a\nb", "\x1b[31m", "\udce9"])
def test_a_value_with_control_codes_is_told_in_one_line_without_them(value: str, tmp_path: Path):
    line = refused(program("train.py", *tiny(tmp_path), f"batch_size={value}"))
    assert value not in line
    assert line.startswith("batch_size=")


def test_a_list_where_one_choice_stands_is_refused(tmp_path: Path):
    line = "attention=[mha]: attention is one choice and no list; say attention=mha"
    assert refused(program("train.py", *tiny(tmp_path), "attention=[mha]")) == line


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("=mha", "'=mha' is not an override; write key=value"),
        ("change=[-0.0]", "change=-0.0: no such option; choose from identity, lora, pack, prune, quantize"),
        ("norm=1e3", "norm=1e3: no such option; choose from dyt, layernorm, none, rms_weightless, rmsnorm"),
    ],
)
def test_what_is_no_choice_is_named(word: str, line: str, tmp_path: Path):
    assert refused(program("train.py", *tiny(tmp_path), word)) == line


def test_the_choice_that_is_not_there_is_named_and_no_other(tmp_path: Path):
    line = refused(program("train.py", *tiny(tmp_path), "callback=[gradient_norms]", "attention=99999999999999999999"))
    assert line.startswith("attention=99999999999999999999: no such option; choose from cope, ")


@pytest.mark.parametrize("flags", [["-c", "job"], ["--multirun", "-c", "job"]])
def test_several_values_cannot_be_printed(flags: list[str], tmp_path: Path):
    assert "-c prints one config, and these are several; give" in refused(program("ablate.py", *AXES, *flags))


@pytest.mark.thorough
@pytest.mark.parametrize("way", ["--config-dir", "hydra.searchpath"])
@pytest.mark.parametrize("name", ["train.py", "ablate.py"])
def test_a_folder_of_ones_own_yamls_is_searched_every_time(name: str, way: str, tmp_path: Path):
    nano = (ROOT / "conf" / "model" / "nano.yaml").read_text()
    folder = yaml_in(tmp_path / "my conf", nano, "model/tiny.yaml")
    words = [f"hydra.searchpath=['file://{folder}']"] if way != "--config-dir" else ["--config-dir", folder]
    rest = [word for word in tiny(tmp_path) if not word.startswith("model")]
    flags = ["--multirun"] if name == "ablate.py" and way == "--config-dir" else []
    wrong = ["optimizer.lr=0.01,0.02", "dry_run=true"] if name == "ablate.py" else ["attention.kv_heads=3"]
    done = program(name, *flags, *words, *rest, "model=tiny", "model.width=16", *wrong)
    if name == "ablate.py":
        assert done.status in COMPARED, done.err
    else:
        assert refused(done).startswith("attention.kv_heads=3 does not divide")


def test_hydras_own_axes_make_a_study(tmp_path: Path):
    text = "# @package _global_\nhydra:\n  sweeper:\n    params:\n      optimizer.lr: 0.01,0.02\n"
    folder = yaml_in(tmp_path / "conf", text)
    words = ["--config-dir", folder, "--multirun", "experiment=own", "dry_run=true", "seeds=2"]
    done = program("ablate.py", *words, *tiny(tmp_path))
    assert done.status in COMPARED, done.err
    assert "4 cells, seeds 0, 1" in done.out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "optimizer.lr=interval(1e-4,1e-2)",
            "optimizer.lr=interval(1e-4,1e-2): an interval has no points to take; list",
        ),
        ("hydra/launcher=ray", "hydra/launcher=ray: its plugin is not installed; run: pip install 'gptlab[ray]'"),
        ("hydra/launcher=slurm", "hydra/launcher=slurm: no such option; choose from joblib, submitit_local, submitit_"),
        ("attention=mha", "attention=mha,mqa attention=mha: attention is given 2 times; give it once"),
        ("hydra/sweeper=optuna", "hydra/sweeper=optuna: a study has its own; leave it out, and say design=search"),
        (
            "name=../escape",
            "name=../escape is no name of one folder; give letters, digits, - and _, and outputs=<folder>",
        ),
        ("name=/absolute", "name=/absolute is no name of one folder"),
        ("name=a/b", "name=a/b is no name of one folder"),
        ("name=.", "name=. is no name of one folder"),
        (f"name={'a' * 201}", f"name={'a' * 20}... has 201 bytes, and a folder's has 128 at most"),
    ],
)
def test_what_no_study_can_take_is_refused(words: str, line: str, tmp_path: Path):
    assert refused(program("ablate.py", *tiny(tmp_path), *AXES, words)).startswith(line)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("words", "in_order"),
    [
        ("model=nano --config-dir my=conf experiment=own", "--config-dir my=conf model=nano experiment=own"),
        ("model=nano --cfg job attention=gqa --resolve", "--cfg job --resolve model=nano attention=gqa"),
        ("--config-dir=conf model=nano -m norm=a,b ~x", "--config-dir=conf -m model=nano norm=a,b ~x"),
        ("model=nano --info steps=3", "model=nano --info steps=3"),
    ],
)
def test_an_option_may_stand_between_overrides(words: str, in_order: str):
    assert put_options_first(words.split()) == in_order.split()


@pytest.mark.parametrize("name", ["train.py", "ablate.py"])
@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--nope", "--nope: no such option; python NAME --help"),
        ("model=nano --nope --cfg job", "--nope: no such option; python NAME --help"),
        ("--mutlirun", "--mutlirun: no such option; did you mean --multirun?"),
        ("--steps 100 model=nano", "--steps: settings have no dashes; say steps=100"),
        ("-m --batch-size=8", "--batch-size=8: settings have no dashes; say batch_size=8"),
        ("--attention.window", "--attention.window: settings have no dashes; say attention.window=VALUE"),
        ("--cfg", "argument --cfg/-c: expected one argument; python NAME --help"),
        ("--cfg=jobs", "argument --cfg/-c: invalid choice: 'jobs' (choose from"),
        ("--config model=nano", "ambiguous option: --config could match --config-path, --config-name, --config-dir;"),
        ("model=nano --info steps=3", "argument --info/-i: invalid choice: 'steps=3'"),
        ("a=1 --info all steps=3", "steps=3: overrides stand side by side; say all of them before or behind the op"),
        ("--experimental-rerun file", "--experimental-rerun would unpickle a file; say like=RUN or resume=RUN"),
        ("--package model", "--package=model is a part of what --cfg prints; add --cfg job"),
        ("--cfg job --package nope", "--package=nope: the config has no such part, or it is null; --cfg job alone pri"),
        ("-c hydra -p model", "--package=model: the config has no such part, or it is null; --cfg job alone pri"),
        ("--resolve", "--resolve is of what --cfg prints; add --cfg job"),
        ("--shell-completion", "--shell-completion installs by a word of its own; docs/shell.md has the line of each"),
        ("--config-name nope", "--config-name=nope: no such config; leave it out, and choose a recipe by experiment="),
        ("--config-path /no/folder", "--config-path=/no/folder is no folder; leave it out, and add one of your own by"),
        ("--config-dir /no/folder", "--config-dir=/no/folder is no folder; give one that holds a folder for each slot"),
        ("hydra.mode=nope", "hydra.mode=nope: hydra takes no such value; leave it out, or see python train.py --cfg"),
        ("--info -m", "--run, --multirun, --cfg, --info and --shell-completion exclude each other; keep one of them"),
        ("-help", "-help: no such option; did you mean --help?"),
        ("model=nano -multirun", "-multirun: no such option; did you mean --multirun?"),
        ("--config-name= steps=0", "--config-name has no value, as where a shell variable is not set; give one, or l"),
        ("hydra.run.dir=logs/x", "hydra.run.dir=logs/x: a run has a folder of its own in outputs; say outputs=logs/x"),
        ("++hydra.output_subdir=x", "++hydra.output_subdir=x: a run's folder holds its config.yaml, and its command i"),
        ("hydra.verbose=nope", "hydra.verbose=nope: nope is no logger of a package here; say hydra.verbose=true for"),
        ("hydra.verbose=[torch,no.pe]", "hydra.verbose=[torch,no.pe]: no.pe is no logger of a package here; say"),
    ],
)
def test_an_option_that_hydra_does_not_take_is_refused_in_one_line(words: str, line: str, name: str):
    assert refused(program(name, *words.split())).startswith(line.replace("NAME", name))


def test_a_glob_that_fits_nothing_and_an_empty_word_are_refused(tmp_path: Path):
    line = refused(program("ablate.py", *tiny(tmp_path), "attention=glob(zzz*)"))
    assert line == "attention=glob(zzz*) fits nothing; python -m gptlab slots attention lists what there is"
    for name in ("train.py", "ablate.py"):
        line = refused(program(name, *tiny(tmp_path), ""))
        assert line.startswith("'' is no override but an empty word, as of a shell variable that is not set; write")
        for option in ("-cn", "--config-dir", "--config-path", "-p"):
            line = refused(program(name, *tiny(tmp_path), option, ""))
            assert line == f"{option} has no value, as where a shell variable is not set; give one, or leave it out"


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("model=nano.yaml", "model=nano.yaml: a choice is a name and no file; say model=nano"),
        ("model=conf/model/nano.yaml", "model=conf/model/nano.yaml: a choice is a name and no file; say model=nano"),
        ("lr=0.1", "lr: no such key; did you mean model.lr or optimizer.lr?"),
        ("sample.prompt=it's", """if the value is a text, quote it for hydra too: 'sample.prompt="it'"'"'s"'"""),
        ('"steps=3"', '"steps=3" cannot be read; leave out quotes and blanks around it: steps=3'),
        ("steps = 3", "steps = 3 cannot be read; leave out quotes and blanks around it: steps=3"),
        ("outputs=~/x", f"outputs=~/x cannot be read; write the path out: outputs={Path.home()}/x"),
    ],
)
def test_a_slip_of_the_pen_is_told_as_it_was_meant(word: str, line: str):
    assert refused(program("train.py", word)).endswith(line)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--multirun model=nano,micro",
        "-m x=1",
        "--multi x=1",  # as far as it is clear
        "--cfg job --resolve -p model",
        "-cjob",
        "--config-dir my --config-name=train -cp conf -h",
        "--info plugins",
        "--info",
        "--hydra-help",
        "--shell-completion install=bash",
        "-sc query=bash",
        "-r ~x +y=-3 z='-1'",
        "-3",  # for hydra to refuse
        "hydra.run.dir=. hydra.output_subdir=null hydra.verbose=true",
        'hydra.run.dir="." hydra.output_subdir=null',  # as Lightning starts the other processes of a run
        "hydra.verbose=[lightning.pytorch,hydra] hydra.sweep.dir=logs",
    ],
)
def test_hydras_own_options_are_taken(words: str):
    refuse_bad_options(get_args_parser(), words.split(), "python train.py")


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ("norm=none steps=5 norm=rmsnorm steps=7", ["norm=none does nothing: norm=rmsnorm stands behind it"]),
        ("position=learned +position=rope", ["position=learned does nothing: +position=rope stands behind it"]),
        ("mlp=a mlp=b mlp=c", [f"mlp={choice} does nothing: mlp=c stands behind it" for choice in "ab"]),
        ("mlp=a ++mlp=a ~mlp --cfg=job --cfg=hydra model.width=8 mlp.hidden=8", []),
    ],
)
def test_a_choice_that_a_later_one_overrules_is_named(words: str, lines: list[str]):
    assert describe_overruled_words(words.split()) == lines


def test_outputs_beside_a_run_that_goes_on_elsewhere_is_named(tmp_path: Path):
    run = tmp_path / "o" / "runs" / "RUN"
    idle = f"outputs=x does nothing: resume={run} goes on in its folder"
    assert describe_idle_outputs([f"resume={run}", "outputs=x", "steps=5"]) == [idle]
    for words in ([f"resume='{run}'"], ["outputs=x"], ["resume=auto", "outputs=x"], [f"outputs={tmp_path}/o"]):
        assert describe_idle_outputs([*words, *([f"resume={run}"] if "/o" in words[0] else [])]) == []


def test_an_axis_may_stand_behind_the_same_key_and_says_so(tmp_path: Path):
    done = program("ablate.py", *tiny(tmp_path), "attention=swa", *AXES)
    assert done.status in COMPARED, done.err
    assert done.out.startswith("attention=swa does nothing: attention=mha,mqa stands behind it\n")


def test_a_folder_of_recipes_may_be_named_behind_an_override(tmp_path: Path):
    own = yaml_in(tmp_path, "# @package _global_\nclip: 0.25\n")
    done = program("train.py", "model=nano", "--config-dir", own, "experiment=own", "--cfg", "job")
    assert (done.status, "clip: 0.25" in done.out) == (0, True), done.err


def test_a_knob_that_an_experiment_sets_for_another_choice_is_named_and_can_be_taken_out(tmp_path: Path):
    words = ["experiment=sprint", "data=text", f"data.path={ROOT}/LICENSE", f"outputs={tmp_path}"]
    line = (
        "optimizer.adam_lr: experiment=sprint sets it, and optimizer=adamw has no such knob; add '~optimizer.adam_lr'"
    )
    assert line in train(*words, "optimizer=adamw").err
    taken_out = ["~optimizer.adam_lr", "~optimizer.momentum"]
    assert check_recipe(wiring.compose([*words, "optimizer=adamw", *taken_out])) == []


TEXTS = [
    "runs/a-s0",
    "a b",
    "it's",
    'say "x"',
    "a,b=c",
    "ünï",
    "$HOME",
    r"back\slash",
    r"it\'s",
    r"\"",
    "end\\",
    r"${x}",
    "[1]",
]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        ("None", "None"),
        (True, "true"),
        (0, "0"),
        (1e-3, "0.001"),
        ([1, None, False, "a b"], "[1, null, false, 'a b']"),
        ({"a": None, "b": [True]}, "{a: null, b: [true]}"),
    ],
)
def test_a_message_quotes_a_value_as_a_yaml_has_it(value: Any, shown: str):
    assert show_value(value) == shown
    assert yaml.safe_load(shown) == value


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_quoted_comes_back_through_hydra_and_through_shell_and_hydra(text: str):
    parser = OverridesParser.create()
    assert parser.parse_override(f"data.path={quote_for_hydra(text)}").value() == text
    (word,) = shlex.split(f"data.path={quote_for_shell(text)}")
    assert parser.parse_override(word).value() == text
