"""Begin a variant: write a class that works and its YAML, from a slot's contract, then run the laws on it.

The class is made from starters/<slot>.py.jinja, the YAML from the class: every keyword-only parameter with its default,
or the root value that all choices take it from.
"""

import inspect
import keyword
import re
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import NamedTuple

from gptlab.commands.check import register_here
from gptlab.commands.laws import describe_law, run_laws
from gptlab.config.factory import PACKAGE, find_slot_package, read_knobs
from gptlab.config.menu import ABLATE, CONF, TRAIN, list_choices
from gptlab.config.recipe import LISTS
from gptlab.config.typecheck import format_value
from gptlab.console.json_answer import add_to_answer
from gptlab.errors import Refused

ROOT = CONF.parent
FOLDER = Path(__file__).parent
STARTERS = {path.name.partition(".")[0]: path for path in sorted((FOLDER / "starters").glob("*.jinja"))}
KNOBS_FROM_ROOT = {"bias": "${bias}", "dropout": "${dropout}", "lr": "${model.lr}"}
"""Knobs that follow a root value in every choice."""


class WrittenFiles(NamedTuple):
    """The two files of a variant, and the name of its class."""

    code: Path
    yaml: Path
    kind: str


def write_variant(slot: str, name: str, package: str = "") -> WrittenFiles:
    """Write both files, or none: into gptlab, or into a package of one's own."""
    refuse_bad_name(slot, name, package)
    kind = "".join(word.capitalize() for word in name.split("_"))
    code, conf, module = package_folder(slot), CONF, find_slot_package(slot)
    if package:
        # registers the package too, so that the new choice can be composed in this process
        code, conf, module = begin_package(package), begin_package(package) / "conf", package
    written = WrittenFiles(code / f"{name}.py", conf / slot / f"{name}.yaml", kind)
    try:
        # the code first: the YAML is made from the class's signature
        written.code.write_text(render_starter(slot, kind), encoding="utf-8")
        written.yaml.parent.mkdir(parents=True, exist_ok=True)
        written.yaml.write_text(make_yaml(slot, name, f"{module}.{name}", kind), encoding="utf-8")
    # also on Ctrl-C: half a variant would break every command that reads the menu
    except BaseException as error:
        written.code.unlink(missing_ok=True)
        written.yaml.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise Refused(f"{error.filename} cannot be written: {error.strerror}") from error
        raise
    return written


def refuse_bad_name(slot: str, name: str, package: str = "") -> None:
    """Refuse what cannot be begun: outside a source checkout, in no slot, or by a name that is no name or taken."""
    if not package and (not (ROOT / "tests" / "test_structure.py").exists() or PACKAGE != ROOT / "src" / "gptlab"):
        raise Refused(
            f"{PACKAGE} is no source checkout, in which a variant could lie; begin it in a package of your own: "
            f"gptlab new {slot} {name} --package mypackage"
        )
    if package and (not re.fullmatch(r"[a-z][a-z0-9_]*", package) or keyword.iskeyword(package) or package == "gptlab"):
        raise Refused(f"--package={package!r} is no name for a package of one's own; try mypackage")
    if slot not in STARTERS:
        raise Refused(f"{slot}: nothing to begin there; choose from {', '.join(STARTERS)}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise Refused(f"{name!r} is no name for a Python file; take small letters, digits and _, as in my_idea")
    code = Path(package) if package else package_folder(slot)
    if name in list_choices(slot) or (code / f"{name}.py").exists():
        raise Refused(f"{slot}={name} is there already; take another name")
    if package:
        return
    package = find_slot_package(slot)
    if hasattr(import_module(package), name):  # a submodule would take that name's place in its package
        raise Refused(f"{slot}={name} would hide what {package} imports as {name}; take another name")


PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{package}"
version = "0.1.0"
dependencies = ["gptlab"]

[project.entry-points."gptlab.variants"]
{package} = "{package}"
"""
"""What makes a folder with a package in it a project whose choices gptlab finds once it is installed."""


def begin_package(package: str) -> Path:
    """Return the folder of a package below the present one, which is begun if it is not there, and register it."""
    folder = Path(package).absolute()
    (folder / "conf").mkdir(parents=True, exist_ok=True)
    for file, text in (
        (folder / "__init__.py", '"""Variants of gptlab."""\n'),
        (folder.parent / "pyproject.toml", PROJECT.format(package=package)),
    ):
        if not file.exists():
            file.write_text(text, encoding="utf-8")
    register_here(package)
    return folder


def package_folder(slot: str) -> Path:
    """Return the folder of a slot's code."""
    return PACKAGE.parent.joinpath(*find_slot_package(slot).split("."))


def render_starter(slot: str, kind: str) -> str:
    """Return the code of a starter."""
    from jinja2 import Environment, StrictUndefined

    template = STARTERS[slot].read_text(encoding="utf-8")
    return Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(template).render(kind=kind)


def make_yaml(slot: str, name: str, module: str, kind: str) -> str:
    """Return the YAML of a class that has just been written."""
    # the import system has looked into this folder before the file was there
    invalidate_caches()
    parameters = read_knobs(getattr(import_module(module), kind))
    lines = [f"# @package {slot}.{name}"] if slot in LISTS else []
    lines += [f"_target_: {module}.{kind}", "_partial_: true"]
    lines += [
        f"{knob}: {KNOBS_FROM_ROOT.get(knob) or format_default(parameter)}" for knob, parameter in parameters.items()
    ]
    return "\n".join(lines) + "\n"


def format_default(parameter: inspect.Parameter) -> str:
    """Return a default as YAML has it: 1e-06 would be a text there."""
    # YAML 1.1 takes 1e-06 for a text, as it wants a dot; 1.0e-06 is a number
    return re.sub(r"^(\d+)e", r"\1.0e", format_value(parameter.default))


def next_commands(slot: str, name: str, default: str | list[str]) -> list[str]:
    """Return the commands to run next: a training, and the comparison with the slot's default."""
    if isinstance(default, list):
        return [f"{TRAIN} {slot}=[{','.join([*default, name])}]"]
    return [f"{TRAIN} {slot}={name}", f"{ABLATE} -m {slot}={default},{name}"]


def print_new_variant(slot: str, name: str, default: str | list[str], package: str = "") -> bool:
    """Begin a variant, run its laws, print the results and what to run next; return True if all laws hold."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    written = write_variant(slot, name, package)
    above = Path.cwd() if package else ROOT
    for path in (written.code, written.yaml):
        console.print(f"  [bold]written[/]   {path.relative_to(above)}")
    with console.status(f"[dim]the laws of {slot}={name}[/]"):
        results = run_laws([(slot, name)])
    console.print(
        f"  [bold]laws[/]      {results.held} hold" + (f", {len(results.broken)} do not:" if results.broken else "")
    )
    for law in results.broken:
        console.print(f"            [red]{escape(describe_law(law))}[/]")
    install = ["pip install -e .    # or: export PYTHONPATH=$PWD GPTLAB_VARIANTS=" + package] if package else []
    # where a law is broken the next thing is to see how, and not to train
    then = [results.command] if results.broken else [*install, *next_commands(slot, name, default)]
    paths = {"code": str(written.code), "yaml": str(written.yaml)}
    add_to_answer(**paths, held=results.held, broken=results.broken, next=then)
    for number, line in enumerate(then):
        console.print(f"  [bold]{'' if number else 'next':<8}[/]  {escape(line)}")
    return not results.broken
