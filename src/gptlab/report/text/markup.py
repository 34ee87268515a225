"""Sentences as templates: plain text with `**bold**` parts, parsed here once; each output then escapes the parts.

Arms, reasons and paths may hold any character: they go into a template through `bold` or `escape`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

TOKEN = re.compile(r"\\.|\*\*|[^\\*]+|.", re.DOTALL)
"""An escaped character, a toggle of bold, a stretch of text, or a lone star or backslash."""


class Strong(str):
    """Bold text in a sentence: arms and verdicts."""


@dataclass(frozen=True)
class Sentence:
    """The parts of a sentence, bold ones as `Strong`, and the command that it ends in, if any."""

    parts: tuple[str, ...]
    command: str = ""

    def __str__(self) -> str:
        return "".join(self.parts)


def parse_sentence(template: str, command: str = "") -> Sentence:
    """Return the sentence that a template spells; `**` begins and ends a bold part."""
    spans = [""]  # plain and bold text in turns
    for token in TOKEN.findall(template):
        if token == "**":
            spans.append("")
        else:
            spans[-1] += token[1:] if len(token) == 2 and token[0] == "\\" else token
    parts = [Strong(span) if number % 2 else span for number, span in enumerate(spans)]
    return Sentence(tuple(part for part in parts if part), command)


def give_commands_once(sentences: Iterable[Sentence]) -> list[Sentence]:
    """Return the sentences, each command in the first that ends in it; the later ones say that it is the same."""
    shown, known = [], set()
    for sentence in sentences:
        if sentence.command in known:
            *parts, end = sentence.parts
            sentence = Sentence((*parts, f"{end.removesuffix(':')}, by the same command."))
        elif sentence.command:
            known.add(sentence.command)
        shown.append(sentence)
    return shown


def escape(text: str) -> str:
    """Return a template that spells `text`, whatever characters it holds."""
    return re.sub(r"([\\*])", r"\\\1", text)


def bold(text: str) -> str:
    """Return a template that spells `text` in bold."""
    return f"**{escape(text)}**"
