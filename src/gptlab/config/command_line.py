"""Words of a command line of hydra's: options such as --config-dir FOLDER, and overrides such as model=nano."""

from collections.abc import Iterable

from gptlab.config.recipe import SLOTS
from gptlab.errors import escape_controls

OPTIONS_WITH_VALUES = (
    *("--cfg", "-c", "--package", "-p", "--experimental-rerun"),
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
)
"""Options of hydra that are followed by their value, where it is not joined to them by `=`."""


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
    return [
        f"{escape_controls(word)} does nothing: {escape_controls(given[-1])} stands behind it"
        for given in values.values()
        for word in dict.fromkeys(given[:-1])
        if word.lstrip("+") != given[-1].lstrip("+")
    ]
