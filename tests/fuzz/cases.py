"""Commands that people could type, right or wrong: each is a function of a seed, and writes the files that it names."""

import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import yaml
from conftest import CONF, choices
from damage import damage_bytes, damage_value
from files import write_checkpoint, write_shards, write_text, write_tokenizer, write_yaml
from tiny_runs import TINY

from gptlab.compose import compose
from gptlab.config.recipe import LISTS, OPTIONAL_SLOTS, SLOTS, flatten
from gptlab.config.typecheck import format_value


@dataclass(frozen=True)
class Case:
    """A command. `trains`: it is cheap enough to be run to its end."""

    program: str
    words: list[str]
    trains: bool = False

    @property
    def command(self) -> str:
        """The command as it is typed."""
        return shlex.join(["python", *self.program.split(), *self.words])


@dataclass(frozen=True)
class Samples:
    """Folders that the cases copy: a finished run, one that was stopped, and a study."""

    finished: Path
    unfinished: Path
    study: Path


NUMBERS = (
    *("nan", "inf", "-inf", "1e400", "-1", "0", "-0.0", "1e-320", "1e-40", "1", "2", "3", "7", "0.5", "1e3", "1_0"),
    *("0x10", "99999999999999999999", "1e308"),
)
WORDS = (
    *("null", "true", "x", "é", "''", "' '", "[]", "{}", "[1,2]", "[[1]]", "{a: 1}", "???", "~", "\\", "$", "a=b"),
    *("${seed}", "${nope}", "${model.width}", "${times:2,3}", "${oc.env:NOPE}", "${", "'q\"", "1,2", "range(1,3)"),
    *("choice(1,2)", "interval(0,1)", "glob(*)", "int(x)", "float(nan)", "null,null", "", "x" * 3000, "../x", "a\nb"),
    *("\udce9", "😀", "%d", "[1", "*", "1 2", "#", "auto", "none"),
)
DEAR = ("outputs", "resume", "cell", "model.layers", "model.width", "trainer.threads", "steps", "data.path")
"""Keys whose values other makers draw, or whose large values only take long."""


@cache
def list_knobs() -> dict[str, object]:
    """Return the keys of the default config, with their values."""
    flat = flatten(compose([*TINY]).config)
    return {key: value for key, value in flat.items() if not key.startswith(("content", "hydra"))}


def draw_value(random: Random, default: object = None) -> str:
    """Return a value for a knob: an odd one, or one near its default."""
    if random.random() < 0.3 and isinstance(default, int | float) and not isinstance(default, bool):
        return format_value(random.choice((default, default * 2, default / 2, -default)))
    return random.choice(NUMBERS) if random.random() < 0.5 else random.choice(WORDS)


def draw_choice(random: Random) -> str:
    """Return slot=choice, the choice being one of that slot's, mostly."""
    slot = random.choice([slot for slot in (*SLOTS, *OPTIONAL_SLOTS, "experiment") if choices(slot)])
    if slot in ("data", "pretrained", "tokenizer"):
        return "bias=true"
    choice = random.choice(choices(slot)) if random.random() < 0.85 else draw_value(random)
    return f"{slot}=[{choice}]" if slot in LISTS and random.random() < 0.9 else f"{slot}={choice}"


def draw_knob(random: Random) -> str:
    """Return key=value of a knob, of which one, the other or nothing is right."""
    key = random.choice([key for key in list_knobs() if key not in DEAR])
    value = draw_value(random, list_knobs()[key])
    spelling = random.random()
    if spelling < 0.1:
        key = random.choice((key[:-1], f"+{key}", f"++{key}", f"~{key}", f"{key}.", key.upper(), f"{key}@x", ""))
    return f"{key}={value}" if spelling < 0.98 else key


def make_override_case(random: Random, folder: Path, _: Samples) -> Case:
    """Draw a training with odd overrides."""
    words = [draw_choice(random) for _ in range(random.randint(0, 2))]
    words += [draw_knob(random) for _ in range(random.randint(0, 2))]
    own_knobs = [*read_choice_knobs(random, words)]
    return Case("train.py", [*TINY, "steps=2", f"outputs={folder}", *words, *own_knobs])


def read_choice_knobs(random: Random, words: list[str]) -> Iterator[str]:
    """Yield a drawn value for a knob of each choice that is named."""
    for word in words:
        slot, _, choice = word.partition("=")
        path = CONF / slot / f"{choice.strip('[]')}.yaml"
        if "\n" not in choice and len(choice) < 100 and "/" not in choice and path.is_file() and slot in SLOTS:
            knobs = [key for key in yaml.safe_load(path.read_text()) or {} if key != "defaults"]
            if knobs and random.random() < 0.6:
                name = f"{slot}.{choice.strip('[]')}" if slot in LISTS else slot
                yield f"{name}.{random.choice(knobs)}={draw_value(random)}"


def make_study_case(random: Random, folder: Path, _: Samples) -> Case:
    """Draw a study that is planned and not run."""
    axes = [join_values(random, draw_choice(random), draw_choice(random)) for _ in range(random.randint(0, 2))]
    axes += [join_values(random, draw_knob(random), draw_knob(random)) for _ in range(random.randint(0, 1))]
    options = ("seeds", "design", "match", "tune", "budget", "confirm", "aa", "name", "baseline", "trials", "sampler")
    known = {
        "design": ["grid", "star", "leave_one_out", "search"],
        "match": ["tokens", "flops", "params", "time"],
        "tune": ["shared", "grid"],
        "aa": ["true"],
        "seeds": ["1", "2", "[3,4]"],
    }
    for option in random.sample(options, random.randint(0, 2)):
        value = random.choice(known.get(option, ["2"])) if random.random() < 0.6 else draw_value(random)
        axes.append(f"{option}={value}")
    return Case("ablate.py", [*TINY, "steps=2", "dry_run=true", f"outputs={folder}", *axes])


def join_values(random: Random, word: str, other: str) -> str:
    """Return key=value of `word` with a second value, mostly of the same kind."""
    key, _, value = word.partition("=")
    second = random.choice(choices(key)) if choices(key) else other.partition("=")[2]
    return random.choice((f"{key}={value},{second}", f"{key}={value},{second}", word))


def make_text_case(random: Random, folder: Path, _: Samples) -> Case:
    """Draw a training on somebody's text."""
    path = write_text(random, folder)
    tokenizer = random.choice(("tokenizer=char", "tokenizer=byte", "tokenizer=bpe tokenizer.vocab_size=280"))
    words = ["data=text", f"data.path={quote(path)}", *tokenizer.split(), "model.context=8"]
    return Case("train.py", [*TINY, "steps=2", f"outputs={folder / 'out'}", *words], trains=random.random() < 0.15)


def make_tokenizer_case(random: Random, folder: Path, _: Samples) -> Case:
    """Draw a training with somebody's tokenizer."""
    words = ["tokenizer=file", f"tokenizer.path={quote(write_tokenizer(random, folder))}"]
    if random.random() < 0.3:
        words += ["data=text", f"data.path={quote(write_text(random, folder))}", "model.context=8"]
    return Case("train.py", [*TINY, "steps=2", f"outputs={folder / 'out'}", *words], trains=random.random() < 0.15)


def make_shards_case(random: Random, folder: Path, _: Samples) -> Case:
    """Draw a training on somebody's token files."""
    words = ["data=shards", f"data.path={write_shards(random, folder)}", f"tokenizer={random.choice(('byte', 'gpt2'))}"]
    words += random.choice(([], ["data.dtype=uint32"], ["data.dtype=int64"], ["data.validation=0.1"], ["data.dtype=x"]))
    return Case("train.py", [*TINY, "steps=2", f"outputs={folder / 'out'}", *words, "model.context=8"])


def make_yaml_case(random: Random, folder: Path, _: Samples) -> Case:
    """Draw a training or a study by somebody's YAML."""
    words = ["--config-dir", str(write_yaml(random, folder)), *TINY, f"outputs={folder / 'out'}", "experiment=own"]
    if random.random() < 0.4:
        return Case("ablate.py", [*words[:2], "--multirun", *words[2:], "dry_run=true", "attention=mha,gqa"])
    return Case("train.py", words)


def make_checkpoint_case(random: Random, folder: Path, _: Samples) -> Case:
    """Draw a fine-tuning of somebody's checkpoint."""
    path = write_checkpoint(random, folder)
    usual = [word for word in TINY if not word.startswith("model")]
    words = [*usual, "steps=2", f"outputs={folder / 'out'}", "pretrained=hf", f"pretrained.path={quote(path)}"]
    words += ["tokenizer=byte", *(["model.context=16"] if random.random() < 0.5 else [])]
    return Case("train.py", words, trains=random.random() < 0.1)


def make_run_case(random: Random, folder: Path, samples: Samples) -> Case:
    """Draw a command on a run or a study of which one file is damaged, or none."""
    kind = random.choice(("resume", "finished", "study"))
    pool = folder / "out" / ("ablations" if kind == "study" else "runs")
    source = {"resume": samples.unfinished, "finished": samples.finished, "study": samples.study}[kind]
    path = pool / source.name
    shutil.copytree(source, path)
    if kind == "study":
        shutil.copytree(source.parents[1] / "runs", folder / "out" / "runs")
    if random.random() < 0.85:
        damage_file(random, random.choice(sorted(file for file in path.rglob("*") if file.is_file())))
    if kind == "resume":
        return Case("train.py", [f"resume={path}"], trains=True)
    commands = {
        "finished": [
            ["sample", str(path), "--length", "3"],
            ["runs", "--outputs", str(folder / "out")],
            ["report", str(path)],
            ["export", str(path), "--to", "safetensors"],
            ["export", str(path), "--format", "int8"],
            ["compare", str(path)],
        ],
        "study": [["status", str(path)], ["compare", str(path)], ["report", str(path)]],
    }
    return Case("-m gptlab", random.choice(commands[kind]))


def damage_file(random: Random, path: Path) -> None:
    """Damage a file as what it is."""
    data = path.read_bytes()
    if path.suffix in (".json", ".yaml") and random.random() < 0.6:
        write = json.dumps if path.suffix == ".json" else yaml.safe_dump
        path.write_text(write(damage_value(random, yaml.safe_load(data))))
    elif random.random() < 0.2:
        path.unlink()
    else:
        path.write_bytes(damage_bytes(random, data))


def quote(path: Path) -> str:
    """Return a path as a value of hydra's."""
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


Maker = Callable[[Random, Path, Samples], Case]
MAKERS: dict[str, Maker] = {
    "override": make_override_case,
    "study": make_study_case,
    "text": make_text_case,
    "tokenizer": make_tokenizer_case,
    "shards": make_shards_case,
    "yaml": make_yaml_case,
    "checkpoint": make_checkpoint_case,
    "run": make_run_case,
}
WEIGHTS = (5, 3, 2, 2, 2, 2, 3, 3)
"""How often each is drawn."""
