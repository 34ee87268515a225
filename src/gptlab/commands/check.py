"""The command `check`: the laws of gptlab on the choices of a package of one's own."""

import os
import sys
from importlib import invalidate_caches, util
from pathlib import Path
from typing import Annotated

import typer

from gptlab.commands.laws import describe_law, run_laws
from gptlab.compose import check_recipe, compose
from gptlab.config.menu import CONF
from gptlab.config.recipe import LISTS, OPTIONAL_SLOTS, SLOTS
from gptlab.config.variant_packages import VariantPackage, list_variant_packages, register_searched
from gptlab.console.json_answer import add_to_answer
from gptlab.errors import Refused


def check(
    package: Annotated[str, typer.Argument(help="Its dotted name; it need not be installed, if it is in this folder.")],
) -> None:
    """Check every choice of a package: what composing and building say, then every law of its slot."""
    register_here(package)
    # surely there: register_here has named it, and the list refuses a name without a package
    registered = next(candidate for candidate in list_variant_packages() if candidate.name == package)
    if not registered.choices:
        raise Refused(
            f"{registered.conf} holds no <slot>/<choice>.yaml; begin one: gptlab new mlp my_idea --package {package}"
        )
    choices = []
    for choice in registered.choices:
        slot, _, name = choice.partition("/")
        choices.append((slot, name))
    if problems := find_problems(registered, choices):
        raise Refused("\nerror: ".join(problems))
    results = run_laws(choices)
    add_to_answer(choices=[*registered.choices], held=results.held, broken=results.broken)
    print(f"{package}: {', '.join(f'{slot}={name}' for slot, name in choices)}: {results.held} laws hold")
    for law in results.broken:
        print(f"  broken: {describe_law(law)}")
    if results.broken:
        print(results.command)
        raise typer.Exit(1)


def register_here(package: str) -> None:
    """Register a package that may lie in the present folder, also for processes that are started."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # a package that `new` has just written is not in the caches; the first name alone: to look for a.b imports a
    invalidate_caches()
    if Path(package).name != package or util.find_spec(package.partition(".")[0]) is None:
        raise Refused(
            f"{package} is no package that is installed or lies in this folder; give its dotted name, "
            "from the folder that holds it"
        )
    # the laws run in a process of their own, which must find the package too
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH", "")]))
    register_searched([f"pkg://{package}.conf"])


def find_problems(package: VariantPackage, choices: list[tuple[str, str]]) -> list[str]:
    """Return the problems of single choices, a line each: of their slot, their YAML, how they build."""
    problems = []
    for slot, name in choices:
        if not (CONF / slot).is_dir():
            problems.append(f"{package.name}: conf/{slot}/{name}.yaml: there is no slot {slot}; see gptlab slots")
        # sizes, experiments and trackers are YAML or stand by themselves: no decoder is built of them
        elif slot in (*SLOTS, *OPTIONAL_SLOTS):
            problems += check_recipe(compose([f"{slot}=[{name}]" if slot in LISTS else f"{slot}={name}"]))
    return problems
