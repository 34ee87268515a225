"""train.py and ablate.py as commands, for an installation that has no clone."""

import runpy
import sys
from typing import Annotated, Any

import typer

from gptlab.commands.complete import complete_override
from gptlab.config.menu import CONF

PROGRAMS = {"train": "train.py", "ablate": "ablate.py"}
WORDS_OF_HYDRA: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
"""Settings of a command that leaves all its words, --help too, to hydra."""


Words = Annotated[list[str] | None, typer.Argument(autocompletion=complete_override)]
"""What a shell completes; hydra reads it from sys.argv."""


def train(words: Words = None) -> None:  # noqa: ARG001
    """Train one model: train.py from any folder, with all its words."""
    run_program("train")


def ablate(words: Words = None) -> None:  # noqa: ARG001
    """Run one study: ablate.py from any folder, with all its words."""
    run_program("ablate")


def run_program(command: str) -> None:
    """Run a program as if it had been started by itself, with its own errors and exit statuses."""
    path = str(CONF.parent / PROGRAMS[command])
    # hydra reads sys.argv, and names the program by its first word
    sys.argv[:2] = [path]
    runpy.run_path(path, run_name="__main__")
