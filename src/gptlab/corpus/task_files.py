"""Files of downstream tasks, a JSON object a line: minimal pairs in BLiMP's format, and questions with answers.

    {"sentence_good": "Many girls insulted themselves.", "sentence_bad": "Many girls insulted herself."}
    {"question": "The sky is", "choices": ["blue", "loud"], "answer": 0}

`answer` is the number of a choice from 0, its letter, or its text; without choices it is the text. Other fields are
left unread. A file's name without its ending names the task. Sources: Warstadt et al. 2020, arXiv:1912.00582 (pairs).
"""

import json
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gptlab.config.typecheck import show_value
from gptlab.corpus.tokenizer import encode_utf8
from gptlab.errors import Refused

PAIRS = "sentence_good and sentence_bad"
QUESTIONS = "question, choices and answer"


class MinimalPair(NamedTuple):
    """Two sentences that differ in what makes one of them right."""

    good: str
    bad: str


class Question(NamedTuple):
    """A text, what may follow it, and which of these is right."""

    text: str
    choices: list[str]
    right: int

    @property
    def answer(self) -> str:
        """The right choice."""
        return self.choices[self.right]


def list_task_files(path: str | list[str] | None, knob: str) -> list[Path]:
    """Return the files of a path or of several; raise Refused where there is none, or where two have one name."""
    if not path:
        raise Refused(f"{knob}=null names no file; give a file of JSON lines, or several: {knob}=[a.jsonl,b.jsonl]")
    files = [Path(item).expanduser() for item in ([path] if isinstance(path, str) else path)]
    for file in files:
        if not file.is_file():
            raise Refused(f"{knob}={file} is no file here; give one of JSON lines")
    names = [name_task(file) for file in files]
    for name in names:
        if names.count(name) > 1:
            raise Refused(f"{knob} has two files that are called {name}; rename one, since it names the task")
    return files


def name_task(file: Path) -> str:
    """Return the name of a file's task: no slash, which would end a group of keys."""
    return re.sub(r"[^\w.-]+", "_", file.stem)


def read_pairs(file: Path) -> list[MinimalPair]:
    """Return the minimal pairs of a file."""
    pairs = []
    for number, row in _read_rows(file):
        good = _take_text(row, "sentence_good", file, number, wanted=PAIRS)
        bad = _take_text(row, "sentence_bad", file, number, wanted=PAIRS)
        if good == bad:
            raise Refused(f"{file}, line {number}: both sentences are {good!r}; a pair must differ")
        pairs.append(MinimalPair(good, bad))
    return pairs


def read_questions(file: Path) -> list[Question]:
    """Return the questions of a file."""
    questions = []
    for number, row in _read_rows(file):
        text, answer = _take_text(row, "question", file, number, wanted=QUESTIONS), row.get("answer")
        choices = row.get("choices", [answer])
        is_list = isinstance(choices, list) and len(choices) > 0
        if not is_list or not all(isinstance(choice, str) and choice for choice in choices):
            raise Refused(f"{file}, line {number}: choices={show_value(choices)} is no list of texts; give {QUESTIONS}")
        right = _find_answer(choices, answer)
        if right is None:
            few = f"0 to {len(choices) - 1}, a letter or one of the texts"
            raise Refused(
                f"{file}, line {number}: answer={show_value(answer)} is none of its {len(choices)} choices; give {few}"
            )
        # a lone surrogate is JSON, and no text
        for choice in choices:
            encode_utf8(choice)
        questions.append(Question(text, choices, right))
    return questions


def _find_answer(choices: list[str], answer: Any) -> int | None:
    """Return the number of the choice that an answer names; None if it names none."""
    # a text wins over a letter: the choices may themselves be letters
    if answer in choices:
        return choices.index(answer)
    if isinstance(answer, str) and len(answer) == 1 and answer in string.ascii_uppercase:
        answer = string.ascii_uppercase.index(answer)
    # true is 1 in Python, and no answer
    if isinstance(answer, bool) or not isinstance(answer, int):
        return None
    return answer if 0 <= answer < len(choices) else None


def _read_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a file of JSON lines, with the numbers of their lines; a file without any is refused."""
    try:
        # not splitlines, which cuts at separators that JSON lets a text hold
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise Refused(f"{file} is no UTF-8; give JSON lines") from None
    rows = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise Refused(f"{file}, line {number} is no JSON ({error}); give one object a line") from None
        if not isinstance(row, dict):
            raise Refused(f"{file}, line {number} holds no object; give one a line: {{...}}")
        rows += 1
        yield number, row
    if not rows:
        raise Refused(f"{file} is empty; give a JSON object a line")


def _take_text(row: dict[str, Any], field: str, file: Path, number: int, wanted: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value:
        raise Refused(f"{file}, line {number}: {field}={show_value(value)} is no text; a line has {wanted}")
    encode_utf8(value)
    return value
