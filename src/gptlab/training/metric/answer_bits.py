"""Bits per byte of the right answer: how well a decoder foretells what should follow a question.

    bits = mean over questions of -log2 p(" " + answer | question) / bytes of " " + answer

The other choices play no part, so a small model, which is at chance in choosing, is told apart from a smaller one.
Bytes make tokenizers comparable. Source: Heineman et al. 2025, "Signal and Noise", arXiv:2508.13144, which finds more
signal for its noise in such a measure than in accuracy.
"""

import statistics
from pathlib import Path

from gptlab.corpus.continuations import Answer, encode_answers, score_answers
from gptlab.corpus.task_files import Question, read_questions
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.generation.likelihood import Continuation
from gptlab.model.decoder import Decoder
from gptlab.training.metric import TaskMetric


class AnswerBits(TaskMetric):
    """Bits per byte of right answers, a mean over questions; equally likely bytes give 8.

    path       a file of JSON lines with question, choices and answer, or several
    separator  between a question and its answer, scored with the answer
    """

    def __init__(self, tokenizer: Tokenizer, *, path: str | list[str] | None = None, separator: str = " ") -> None:
        self.separator = separator
        super().__init__(tokenizer, path=path)

    @classmethod
    def read(cls, file: Path) -> list[Question]:
        return read_questions(file)

    def encode(self, tokenizer: Tokenizer, rows: list[Question], file: Path) -> list[Answer]:
        texts = [(question.text, self.separator + question.answer) for question in rows]
        return encode_answers(tokenizer, texts, str(file))

    def score(self, decoder: Decoder, items: list[Answer]) -> float:
        return statistics.fmean(score_answers(decoder, items))

    def list_continuations(self, items: list[Answer]) -> list[Continuation]:
        return [answer.continuation for answer in items]
