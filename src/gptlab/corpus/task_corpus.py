"""The examples of a synthetic task in place of a corpus of text; every batch is a pure function of (seed, step)."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from gptlab.config.factory import Factory
from gptlab.corpus.corpus import Corpus, TokenWindows
from gptlab.corpus.data import Examples, SyntheticTask
from gptlab.errors import Refused
from gptlab.model.shape import IGNORED

TRAINING, VALIDATION = 1, 2
"""Streams of random numbers; that of the validation split is the same whatever the seed of a run."""


@dataclass(frozen=True)
class TaskCorpus(Corpus):
    """A task and its validation examples; `train` and `validation` are inputs of some examples, one after another."""

    task: SyntheticTask
    judged: Examples

    @property
    def weighs_rows(self) -> bool:
        return True

    def make_batch(self, seed: int, step: int, rows: int, context: int) -> tuple[np.ndarray, np.ndarray]:
        task = self.task.ease(step)
        return task.generate(open_stream(TRAINING, seed, step), rows, context, judged=False)[:2]

    def windows(self, context: int, tokens: int | None = None, stretch: int = 1) -> tuple[TokenWindows, TokenWindows]:
        count = None if tokens is None else -(-tokens // context)
        return self.judged.inputs[:count], self.judged.targets[:count]

    def find_scored_places(self, context: int) -> np.ndarray:
        return np.nonzero(self.judged.targets != IGNORED)[1]

    def list_difficulty(self) -> dict[str, np.ndarray]:
        if self.task.has_many_answers:  # no target can be right or wrong by itself
            return {}
        is_asked = self.judged.targets != IGNORED
        difficulty = {}
        for name, levels in self.judged.difficulty.items():
            difficulty[name] = np.broadcast_to(levels, is_asked.shape)[is_asked]
        return difficulty

    def keep_examples(self, rows: slice) -> "TaskCorpus":
        """Return a corpus that is judged by some of the examples."""
        inputs, targets, difficulty = self.judged
        chosen_difficulty = {name: levels[rows] for name, levels in difficulty.items()}
        judged = Examples(inputs[rows], targets[rows], chosen_difficulty)
        return replace(self, validation=judged.inputs.reshape(-1), judged=judged)

    def explain_missing_history(self, context: int, most: int) -> str:
        return "a synthetic task has no text before its examples"

    def describe_size(self) -> str:
        return f"examples without end to learn from, {len(self.judged.inputs):,} to be judged by"

    def describe_passes(self, tokens: int) -> str:
        return "none of them twice"

    @property
    def train_tokens(self) -> None:
        return None


def build_task_corpus(task: SyntheticTask, tokenizer_factory: Factory, context: int) -> TaskCorpus:
    """Generate the validation split of a task; raise Refused if an example is longer than the context."""
    task.refuse_short_context(context)
    if not tokenizer_factory.target.for_tasks:  # type: ignore[attr-defined]
        raise Refused(f"{tokenizer_factory.path} reads text, and a synthetic task has none; say tokenizer=symbols")
    judged = task.generate(open_stream(VALIDATION, 0, 0), task.examples, context, judged=True)
    tokenizer = tokenizer_factory(task.symbols())
    train = task.generate(open_stream(TRAINING, 0, 0), 2, context, judged=False).inputs.reshape(-1)
    sha256 = hashlib.sha256(judged.inputs.tobytes() + judged.targets.tobytes()).hexdigest()
    validation = judged.inputs.reshape(-1)
    return TaskCorpus(train=train, validation=validation, tokenizer=tokenizer, sha256=sha256, task=task, judged=judged)


def open_stream(stream: int, seed: int, step: int) -> np.random.Generator:
    """Return the random numbers of one batch of a stream."""
    # a corpus of text draws its positions from stream 0; the step is the counter's second word, as there
    return np.random.Generator(np.random.Philox(key=seed % 2**64 + (stream << 64), counter=[0, step, 0, 0]))
