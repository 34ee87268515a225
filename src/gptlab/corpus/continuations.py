"""Texts of downstream tasks as tokens, a continuation and what stands before it, and what a decoder makes of them.

Tokens of the two are those of the whole text, since a byte pair may join what is on both sides of the border: the
continuation is what the whole has beyond the tokens of the text before. Blanks at the end of that text belong to the
continuation. Both are lm-evaluation-harness's rules, so that its numbers are ours.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from gptlab.corpus.load import tokenize_prompt
from gptlab.corpus.task_files import MinimalPair
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.errors import Refused
from gptlab.generation.likelihood import MAX_ROWS, Continuation, score_continuations
from gptlab.model.decoder import Decoder


class Answer(NamedTuple):
    """An answer after its question, and the bytes of UTF-8 that are scored."""

    continuation: Continuation
    nbytes: int


def tokenize_start(tokenizer: Tokenizer) -> list[int]:
    """Return the prefix of a text that has none: the tokens of a new line, or token 0 where the vocabulary lacks it."""
    return [int(token) for token in tokenize_prompt(None, tokenizer, "start")]


def tokenize_continuation(tokenizer: Tokenizer, before: str, text: str) -> Continuation:
    """Return the tokens of the text before, at least one, and of the continuation."""
    # blanks move over to the continuation, as the harness cuts its texts
    stem = before.rstrip()
    before, text = stem, before[len(stem) :] + text
    if not before:
        return Continuation(tokenize_start(tokenizer), tokenizer.encode(text).tolist())
    # as one text: encoded apart, a byte pair across the border would come out as two tokens
    whole = tokenizer.encode(before + text).tolist()
    border = len(tokenizer.encode(before))
    return Continuation(whole[:border], whole[border:])


def encode_texts(tokenizer: Tokenizer, texts: Sequence[tuple[str, str]], source: str) -> list[Continuation]:
    """Return the tokens of (text before, continuation); raise Refused with the number of the first that has none.

    source  the file or the task, for the refusal
    """
    encoded = []
    for number, (before, text) in enumerate(texts, start=1):
        try:
            continuation = tokenize_continuation(tokenizer, before, text)
        except Refused as refused:
            raise Refused(f"{source}, text {number}: {refused}") from refused
        if not len(continuation.tokens):
            raise Refused(f"{source}, text {number}: {text!r} after {before[-20:]!r} has no token; give it a text")
        encoded.append(continuation)
    return encoded


def encode_pairs(tokenizer: Tokenizer, pairs: Sequence[MinimalPair], source: str) -> list[Continuation]:
    """Return the sentences of all pairs as tokens, the good one before the bad one."""
    return encode_texts(tokenizer, [("", sentence) for pair in pairs for sentence in pair], source)


def encode_answers(tokenizer: Tokenizer, texts: Sequence[tuple[str, str]], source: str) -> list[Answer]:
    """Return the tokens of (question, answer), and the bytes that are scored."""
    answers = []
    for continuation, (before, text) in zip(encode_texts(tokenizer, texts, source), texts, strict=True):
        # blanks at a question's end are scored with the answer
        blanks = before[len(before.rstrip()) :]
        answers.append(Answer(continuation, len((blanks + text).encode())))
    return answers


def score_pairs(decoder: Decoder, sentences: Sequence[Continuation], max_rows: int = MAX_ROWS) -> list[float]:
    """Return for each pair 1.0 where the good sentence is likelier, else 0.0."""
    scores = [likelihood.log_likelihood for likelihood in score_continuations(decoder, sentences, max_rows)]
    return [float(good > bad) for good, bad in zip(scores[::2], scores[1::2], strict=True)]


def score_answers(decoder: Decoder, answers: Sequence[Answer], max_rows: int = MAX_ROWS) -> list[float]:
    """Return the bits per byte of each answer."""
    scores = score_continuations(decoder, [answer.continuation for answer in answers], max_rows)
    bits = [-score.log_likelihood / math.log(2) for score in scores]
    return [of_answer / answer.nbytes for of_answer, answer in zip(bits, answers, strict=True)]
