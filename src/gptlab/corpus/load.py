"""The text that a recipe names, read and judged before lightning is imported: what it refuses must not wait."""

from pathlib import Path

import numpy as np

from gptlab.config.factory import factory
from gptlab.config.recipe import Recipe
from gptlab.corpus.corpus import Corpus, read
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.errors import Refused


def read_corpus(recipe: Recipe) -> Corpus:
    """The text and tokenizer of a recipe; refuses a prompt that the tokenizer does not know."""
    data = factory(recipe.config["data"], "data")()
    cache = Path(recipe.settings.outputs) / "cache"
    corpus = read(data, factory(recipe.config["tokenizer"], "tokenizer"), recipe.settings.model.context, cache)
    encode_prompt(recipe, corpus)
    return corpus


def encode_prompt(recipe: Recipe, corpus: Corpus) -> np.ndarray:
    """The prompt of samples as tokens."""
    return tokens_of_prompt(recipe.settings.sample.prompt, corpus.tokenizer, "sample.prompt")


def tokens_of_prompt(prompt: str | None, tokenizer: Tokenizer, knob: str) -> np.ndarray:
    """A prompt as tokens; none is a new line, or the first token where there is no such character."""
    try:
        tokens = tokenizer.encode("\n" if prompt is None else prompt)
    except Refused as refused:
        if prompt is None:
            return np.zeros(1, np.int64)
        raise Refused(f"{knob}={prompt!r}: {refused}") from refused
    if not len(tokens):
        raise Refused(f"{knob} is empty; give a text of one character or more, or none at all")
    return tokens
