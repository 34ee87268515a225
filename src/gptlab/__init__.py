"""gptlab: one GPT decoder whose every part is a Hydra choice, its trainer, and an ablation engine."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptlab.commands.python_study import Study as Study
    from gptlab.commands.python_study import list_runs as list_runs
    from gptlab.corpus.tokenizer import Tokenizer
    from gptlab.model.decoder import Decoder

CALLED = {"study": "Study", "runs": "list_runs"}
"""Packages that may be called, gptlab.study("attention=gqa,mha") and gptlab.runs(), and what that calls."""


def load(run: str | Path, which: str = "last") -> "tuple[Decoder, Tokenizer]":
    """Return a run's decoder, in eval mode on the CPU with its `last` or `best` weights, and its tokenizer."""
    from gptlab.training.restore import load_run

    return load_run(run, which)


def __getattr__(name: str) -> Any:
    """Import what is used from Python only where it is used."""
    if name in CALLED.values():
        from gptlab.commands import python_study

        return getattr(python_study, name)
    if name in CALLED:
        return import_module(f"gptlab.{name}")
    raise AttributeError(f"gptlab has no {name}")


class _CallablePackage(ModuleType):
    """A package of the same name as what is used from Python."""

    def __call__(self, *words: Any, **settings: Any) -> Any:
        return __getattr__(CALLED[self.__name__.rpartition(".")[2]])(*words, **settings)


class _Root(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # the import system sets a package as an attribute of this one, whoever imports it first
        if name in CALLED and type(value) is ModuleType:
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Root
