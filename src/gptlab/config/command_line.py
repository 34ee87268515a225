"""Words of a command line of hydra's: options such as --config-dir FOLDER, and overrides such as model=nano."""

import argparse
import difflib
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import fields
from importlib import util
from pathlib import Path

from gptlab.config.hydra_messages import explain_missing_config_path, list_study_keys
from gptlab.config.recipe import OPTIONAL_SLOTS, SLOTS, Settings
from gptlab.errors import Refused, escape_controls

OPTIONS_WITH_VALUES = (
    *("--cfg", "-c", "--package", "-p", "--experimental-rerun"),
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
)
"""Options of hydra that are followed by their value, where it is not joined to them by `=`."""
SET_HERE = "GPTLAB_SETS_FULL_ERROR"
"""Variable that tells a program which one of ours starts that no person set HYDRA_FULL_ERROR."""


def wants_full_error() -> bool:
    """Return whether a person asked for whole tracebacks, and no program of ours that started this one."""
    return os.environ.get("HYDRA_FULL_ERROR") == "1" and SET_HERE not in os.environ


@contextmanager
def let_hydra_raise() -> Iterator[None]:
    """Let hydra raise its errors inside, which it prints otherwise, and exits by itself."""
    asked = wants_full_error()
    before = {name: os.environ[name] for name in ("HYDRA_FULL_ERROR", SET_HERE) if name in os.environ}
    os.environ |= {"HYDRA_FULL_ERROR": "1"} | ({} if asked else {SET_HERE: "1"})
    try:
        yield
    finally:
        for name in ("HYDRA_FULL_ERROR", SET_HERE):
            os.environ.pop(name, None)
        os.environ |= before


def put_options_first(words: list[str]) -> list[str]:
    """Return a command line with its options before its overrides; hydra takes none that stands between overrides."""
    # its value may be left out: whatever came to stand behind it would be taken for that
    if {"--info", "-i"} & {*words}:
        return words
    options, overrides = [], []
    is_value = False
    for word in words:
        (options if word.startswith("-") or is_value else overrides).append(word)
        is_value = word in OPTIONS_WITH_VALUES
    return [*options, *overrides]


def refuse_bad_options(parser: argparse.ArgumentParser, words: list[str], program: str) -> None:
    """Raise Refused for options that hydra's parser does not take, where it would print its usage.

    words    as they were typed
    program  how the program is started, for the remedy
    """

    def refuse(message: str) -> None:
        raise Refused(f"{' '.join(message.split())}; {program} --help lists options and settings")

    _refuse_empty_options(words)
    _refuse_hydra_settings(words)
    parser.error = refuse  # type: ignore[method-assign]
    options = [option for action in parser._actions for option in action.option_strings]
    for word in words:
        if f"-{word}" in options:  # -help, which argparse takes for -h and something else
            raise Refused(f"{word}: no such option; did you mean -{word}?")
    options_given, unknown = parser.parse_known_args(put_options_first(words))
    if unknown:
        raise Refused(escape_controls(explain_unknown_option(unknown[0], words, options, program)))
    if options_given.experimental_rerun is not None:  # pickle runs whatever code its file holds
        raise Refused("--experimental-rerun would unpickle a file; say like=RUN or resume=RUN")
    if options_given.package is not None and options_given.cfg is None:
        raise Refused(f"--package={options_given.package} is a part of what --cfg prints; add --cfg job")
    if options_given.resolve and options_given.cfg is None and not options_given.help:
        raise Refused("--resolve is of what --cfg prints; add --cfg job")
    place = options_given.config_path or ""
    if place.startswith("/") and not Path(place).is_dir():  # one that is relative lies beside the program
        raise Refused(explain_missing_config_path(place))
    if options_given.shell_completion and not options_given.overrides:
        raise Refused("--shell-completion installs by a word of its own; docs/shell.md has the line of each shell")


def _refuse_empty_options(words: Sequence[str]) -> None:
    """Raise Refused for an option whose value is empty; hydra would take some of them for left out."""
    for number, word in enumerate(words):
        option, assigns, value = word.partition("=")
        following = words[number + 1] if number + 1 < len(words) else None  # a last one without a value is argparse's
        if option in OPTIONS_WITH_VALUES and (value if assigns else following) == "":
            raise Refused(f"{option} has no value, as where a shell variable is not set; give one, or leave it out")


def _refuse_hydra_settings(words: Sequence[str]) -> None:
    """Raise Refused for settings of hydra's that would leave a folder, or do nothing, without a word."""
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        value = value.strip("'\"")  # Lightning starts its other processes with hydra.run.dir="."
        if key == "hydra.run.dir" and value != ".":
            raise Refused(f"{word}: a run has a folder of its own in outputs; say outputs={value}")
        if key == "hydra.output_subdir" and value != "null":
            raise Refused(f"{word}: a run's folder holds its config.yaml, and its command in run.json; leave it out")
        if key == "hydra.verbose" and value not in ("true", "false"):
            for name in value.strip("[]").split(","):
                if not name or util.find_spec(name.strip().partition(".")[0]) is None:
                    raise Refused(f"{word}: {name} is no logger of a package here; say hydra.verbose=true for all")


@contextmanager
def refuse_missing_package(words: Sequence[str]) -> Iterator[None]:
    """Raise Refused where `words` have --cfg print a package that is not there, of which hydra ends with status 1."""
    if not any(word.startswith(("-p", "--package")) for word in words) or not any(
        word.startswith(("-c", "--cfg")) for word in words
    ):
        yield
        return
    held = io.StringIO()
    try:
        with redirect_stderr(held):
            yield
    except SystemExit as end:
        match = re.fullmatch(r"package '(.*)' not found in config\n", held.getvalue())
        if match is None:
            raise
        held = io.StringIO()
        whole = f"--package={match[1]}: the config has no such part, or it is null; --cfg job alone prints all of it"
        raise Refused(whole) from end
    finally:
        sys.stderr.write(held.getvalue())


def explain_unknown_option(word: str, words: list[str], options: Iterable[str], program: str) -> str:
    """Return the line for a word that is no option: a setting with dashes, a slip of the pen, or a stray override."""
    if not word.startswith("-"):
        return f"{word}: overrides stand side by side; say all of them before or behind the options"
    key, assigns, value = word.lstrip("-").partition("=")
    key = key.replace("-", "_")
    settings = [item.name for item in fields(Settings)]
    if key.partition(".")[0] in (*SLOTS, *OPTIONAL_SLOTS, *list_study_keys(), *settings):
        if not assigns:  # the next word may be meant for its value: --steps 100
            behind = words[words.index(word) + 1 :][:1]
            value = next((text for text in behind if "=" not in text and not text.startswith("-")), "VALUE")
        return f"{word}: settings have no dashes; say {key}={value}"
    if close := difflib.get_close_matches(word.partition("=")[0], options, 1, 0.75):
        return f"{word}: no such option; did you mean {close[0]}?"
    return f"{word}: no such option; {program} --help lists options and settings"


def describe_overruled_words(words: Iterable[str]) -> list[str]:
    """Return a line for each choice of a slot that a later one overrules; two that say the same are none.

    Hydra takes the last. Of knobs that is everybody's idiom, a script's defaults before its caller's words; of two
    attentions one was forgotten, so it is said, and not refused.
    """
    values: dict[str, list[str]] = {}
    for word in words:
        key, assigns, _ = word.lstrip("+").partition("=")
        if assigns and key in SLOTS and not word.startswith("-"):
            values.setdefault(key, []).append(word)
    remarks = []
    for given in values.values():
        *earlier, last = given
        for word in dict.fromkeys(earlier):
            if word.lstrip("+") != last.lstrip("+"):
                remarks.append(f"{escape_controls(word)} does nothing: {escape_controls(last)} stands behind it")
    return remarks
