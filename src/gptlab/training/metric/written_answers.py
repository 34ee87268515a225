"""Share of questions of a synthetic task whose answer, as the decoder writes it, is right as a whole.

Where several answers are right, their tokens cannot be compared with one of them: the likeliest token is drawn after
what was written before, and the task judges the whole.
"""

import numpy as np
import torch

from gptlab.corpus.corpus import Corpus
from gptlab.corpus.task_corpus import TaskCorpus
from gptlab.errors import Refused
from gptlab.generation.generate import generate
from gptlab.model.decoder import Decoder
from gptlab.model.shape import IGNORED
from gptlab.training.metric import AnswerMetric

MAX_ROWS = 256
"""Questions that are answered at once."""


class WrittenAnswers(AnswerMetric):
    """Accuracy of answers, in [0, 1]; one question a row, whose answer ends it."""

    def __init__(self, corpus: Corpus) -> None:
        super().__init__()
        if not isinstance(corpus, TaskCorpus) or not corpus.task.has_many_answers:
            raise Refused(
                "metric=[written_answers] is of tasks with several right answers, as data=brevo; "
                "say metric=[answer_accuracy]"
            )
        self.corpus = corpus

    def update(self, decoder: Decoder, count: int) -> None:
        parts = [slice(start, min(start + MAX_ROWS, count)) for start in range(0, count, MAX_ROWS)]
        self.right = np.concatenate([self.answer(decoder, rows) for rows in parts])
        self.difficulty = {name: levels[:count, 0] for name, levels in self.corpus.judged.difficulty.items()}

    def answer(self, decoder: Decoder, rows: slice) -> np.ndarray:
        """Return whether each answer is right, (rows,) of 0.0 and 1.0."""
        inputs, asked = self.corpus.judged.inputs[rows], self.corpus.judged.targets[rows] != IGNORED
        # a question ends with the input whose target is the first token of the answer
        questions = [row[: is_asked.argmax() + 1] for row, is_asked in zip(inputs, asked, strict=True)]
        lengths = asked.sum(1)  # of the answers
        device = decoder.embedding.weight.device
        prompts = [torch.from_numpy(question).to(device) for question in questions]
        tokens = generate(decoder, prompts, int(lengths.max()), temperature=0)
        answers = torch.stack(list(tokens), 1).cpu().numpy()  # (rows, longest answer)
        right = []
        for question, answer, length in zip(questions, answers, lengths, strict=True):
            # right answers are as long as each other, so that what follows was written for other rows alone
            right.append(self.corpus.task.is_right(question.tolist(), answer[:length].tolist()))
        return np.array(right, float)
