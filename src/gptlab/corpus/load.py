"""Loading a recipe's corpus. This runs before lightning is imported, so that a refusal does not wait for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from gptlab.config.factory import factory
from gptlab.config.recipe import Recipe
from gptlab.corpus.content import SLOTS, refuse_changed_content
from gptlab.corpus.corpus import Corpus, build_corpus
from gptlab.corpus.data import StreamedData, SyntheticTask
from gptlab.corpus.streaming.stream_corpus import build_stream_corpus
from gptlab.corpus.task_corpus import TaskCorpus, build_task_corpus
from gptlab.corpus.token_files import JoinedTokens, cut_tokens, join_tokens
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.errors import Refused


def read_corpus(recipe: Recipe) -> Corpus:
    """Return the corpus of a recipe; raise Refused for a sample prompt that the tokenizer cannot encode.

    Refused are files too that have changed since the recipe was composed: it would be a run of another text.
    """
    data = factory(recipe.config["data"], "data")()
    cache_folder = Path(recipe.settings.outputs) / "cache"
    tokenizer_factory = factory(recipe.config["tokenizer"], "tokenizer")
    context = recipe.settings.model.context
    # generated anew in each process: nothing is cached, nothing stands in a file
    if isinstance(data, SyntheticTask):
        corpus = build_task_corpus(data, tokenizer_factory, context)
    elif isinstance(data, StreamedData):
        corpus = build_stream_corpus(data, tokenizer_factory, context, cache_folder)
    else:
        corpus = build_corpus(data, tokenizer_factory, context, cache_folder)
    is_resumed = recipe.settings.resume not in (None, "auto")  # then its folder says what text it began with
    refuse_changed_content(recipe.config, ("metric.",) if is_resumed else ("metric.", *SLOTS))
    corpus = select_part(corpus, recipe.settings.evaluation.part, context)
    # for its refusal: samples are written after hours of training
    encode_sample_prompt(recipe, corpus)
    return corpus


HELD_BACK = 0.25
"""Share of the validation split, its end, that a campaign looks at once."""


def select_part(corpus: Corpus, part: str, context: int) -> Corpus:
    """Return a corpus whose validation split is a part of it: `open` before the end that is `held_back`, or `all`."""
    if part == "all":
        return corpus
    if isinstance(corpus, TaskCorpus):
        border = int(len(corpus.judged.inputs) * (1 - HELD_BACK))
        return corpus.keep_examples(slice(border) if part == "open" else slice(border, None))
    validation = corpus.validation
    pieces = validation.parts if isinstance(validation, JoinedTokens) else [validation]
    border = int(len(validation) * (1 - HELD_BACK))
    before, after = cut_tokens(pieces, border)
    start, stop = (0, border) if part == "open" else (border, len(validation))
    if stop - start <= context:
        raise Refused(
            f"evaluation.part={part} has {stop - start} of the {len(validation)} validation tokens, no more than "
            f"model.context={context}; give more text, or data.validation=<a larger share>"
        )
    chosen = [piece for piece in (before if part == "open" else after) if len(piece)]
    documents = corpus.documents
    if documents is not None:
        documents = documents.cut_validation(start, stop)
    return replace(corpus, validation=join_tokens(chosen), documents=documents)


class CorpusCache:
    """The corpora of recipes, each read once."""

    def __init__(self) -> None:
        self.corpora: dict[str, Corpus] = {}

    def load(self, recipe: Recipe) -> Corpus:
        """Return the corpus of a recipe."""
        # all that the corpus depends on: arms of one study share it
        parts = [recipe.config.get(name) for name in ("data", "tokenizer", "sample", "content", "outputs")]
        parts.append(recipe.settings.evaluation.part)
        key = repr([*parts, recipe.settings.model.context])
        if key not in self.corpora:
            self.corpora[key] = read_corpus(recipe)
        refuse_changed_content(recipe.config, ("metric.",))  # read anew for each run, unlike the tokens
        return self.corpora[key]


def encode_sample_prompt(recipe: Recipe, corpus: Corpus) -> np.ndarray:
    """Return the tokens of `sample.prompt`, (N,)."""
    return tokenize_prompt(recipe.settings.sample.prompt, corpus.tokenizer, "sample.prompt")


def tokenize_prompt(prompt: str | None, tokenizer: Tokenizer, knob: str) -> np.ndarray:
    """Return the tokens of a prompt, (N,); None is a newline, or token 0 where the tokenizer has no newline."""
    try:
        tokens = tokenizer.encode("\n" if prompt is None else prompt)
    except Refused as refused:
        if prompt is None:
            return np.zeros(1, np.int64)
        raise Refused(f"{knob}={prompt!r}: {refused}") from refused
    if not len(tokens):
        raise Refused(f"{knob} is empty; give a text of one character or more, or none at all")
    return tokens
