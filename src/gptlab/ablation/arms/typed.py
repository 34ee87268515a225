"""Arms on the command line: +arms.gated=[attention.gate=true,optimizer.lr=2e-3].

Hydra's grammar has no "=" in an unquoted list, so the overrides of such a list are quoted before hydra reads them. What
each says is left as it is typed: an arm's words are parsed once more, as overrides, when the arm is composed.
"""

import re
from collections.abc import Iterator

from gptlab.errors import Refused

EXAMPLE = "+arms.gated=[attention.gate=true,optimizer.lr=2e-3]"
TYPED = re.compile(r"\+{0,2}arms\.(?P<name>[^=]*)(?:=(?P<value>.*))?", re.DOTALL)
NAME = re.compile(r"[A-Za-z_][\w-]*")
"""What hydra's grammar takes as one part of a key."""
CLOSING = {"[": "]", "{": "}", "(": ")"}


def quote_typed_arms(words: list[str]) -> list[str]:
    """Return a command line whose arms hydra can read: +arms.NAME=["knob=value","knob=value"]."""
    names: set[str] = set()
    quoted = []
    for word in words:
        match = TYPED.fullmatch(word)
        if match is None:
            quoted.append(word)
            continue
        name, overrides = match["name"], _read_overrides(word, match["value"] or "")
        if not NAME.fullmatch(name):
            raise Refused(f"{word}: {name!r} is no name; begin with a letter, then letters, digits, _ and -")
        if name in names:
            raise Refused(f"{word}: an arm {name} is given twice; give each its own name")
        names.add(name)
        quoted.append(f"+arms.{name}=[{','.join(map(_quote, overrides))}]")
    return quoted


def _read_overrides(word: str, value: str) -> list[str]:
    """Return the overrides that an arm's list has, without the quotes around each."""
    inside = value.strip()
    if not (inside.startswith("[") and inside.endswith("]")):
        raise Refused(f"{word} is no list of overrides; write {EXAMPLE}, or [] for an arm that changes nothing")
    overrides = [_unquote(item) for item in split_outside_brackets(inside[1:-1], ",", word)]
    for override in overrides:
        if "=" not in override.strip("="):
            raise Refused(f"{word}: {override or 'nothing'} is no override; write knob=value, as in {EXAMPLE}")
    keys = [override.partition("=")[0] for override in overrides]
    for key in keys:
        if keys.count(key) > 1:  # hydra would take the last
            raise Refused(f"{word}: {key} is given {keys.count(key)} times; give it once")
    return overrides


def split_outside_brackets(text: str, separator: str, source: str) -> list[str]:
    """Return the stripped parts of a text between separators that stand outside of brackets and quotes.

    source  what is named where a bracket or a quote is left open
    """
    parts, start = [], 0
    for at in _find_separators(text, separator, source):
        parts.append(text[start:at].strip())
        start = at + 1
    last = text[start:].strip()
    # an empty text has no part, and a comma at its end begins none
    return [*parts, last] if last else parts


def _find_separators(text: str, separator: str, source: str) -> Iterator[int]:
    """Yield the places of the separators that stand outside of brackets and quotes."""
    # what closes what is open now, the innermost last; in a quote nothing else counts
    expected: list[str] = []
    for at, letter in enumerate(text):
        if expected and letter == expected[-1]:
            before = text[:at]
            # an odd number of backslashes makes a quote a letter
            if letter not in "'\"" or (len(before) - len(before.rstrip("\\"))) % 2 == 0:
                expected.pop()
        elif expected and expected[-1] in "'\"":
            continue
        elif letter in "'\"":
            expected.append(letter)
        elif letter in CLOSING:
            expected.append(CLOSING[letter])
        elif letter in CLOSING.values():
            raise Refused(f"{source}: a {letter} closes nothing; mend the brackets")
        elif letter == separator and not expected:
            yield at
    if expected:
        raise Refused(f"{source}: a {expected[-1]} is missing; mend the quotes or brackets")


def _unquote(item: str) -> str:
    """Return an item without the quotes around all of it."""
    if len(item) > 1 and item[0] == item[-1] and item[0] in "'\"":
        return item[1:-1].replace(f"\\{item[0]}", item[0])
    return item


def _quote(override: str) -> str:
    """Return an override as a text in hydra's grammar: double quotes, so that a shell's single ones go around."""
    # hydra unescapes a run of backslashes before a quote alone; all others stay as they are
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', override)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f'"{escaped}{escaped[-trailing:] if trailing else ""}"'
