"""Tokens in, batches out: every batch is a pure function of (seed, step)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gptlab.config.factory import Factory
from gptlab.corpus.data import Data, TokenFiles
from gptlab.corpus.split import split
from gptlab.corpus.token_files import Tokens, cut, joined, opened, scanned, total
from gptlab.corpus.tokenize import learned, tokenised
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.errors import Refused
from gptlab.model.forward_pass import IGNORED


@dataclass(frozen=True)
class Corpus:
    """The tokens of both splits, the tokenizer, and the sha256 of the text or of the files of tokens."""

    train: Tokens
    validation: Tokens
    tokenizer: Tokenizer
    sha256: str

    def batch(self, seed: int, step: int, rows: int, context: int) -> np.ndarray:
        """(rows, context + 1) training tokens at random places, the same for this seed and step wherever asked."""
        # The step is the counter's second word: the first counts the draws of a batch, which steps must not share.
        random = np.random.Generator(np.random.Philox(key=seed % 2**64, counter=[0, step, 0, 0]))
        starts = random.integers(0, len(self.train) - context, rows)
        return self.train[starts[:, None] + np.arange(context + 1)].astype(np.int64)

    def windows(self, context: int, tokens: int | None = None) -> "tuple[Windows, Windows]":
        """Inputs and targets, (N, context) each, that score every validation token after the first once. With `tokens`,
        about so many of them, in windows spread evenly. The last window is padded with targets that are not scored."""
        count = -(-(len(self.validation) - 1) // context)
        kept = np.arange(count)
        if tokens is not None and -(-tokens // context) < count:
            kept = np.linspace(0, count - 2, -(-tokens // context)).astype(int)
        return Windows(self.validation, kept, context, 0, 0), Windows(self.validation, kept, context, 1, IGNORED)


@dataclass(frozen=True)
class Windows:
    """Windows of a row of tokens, (N, context) of int64, made as they are asked for: the row may be larger than memory.
    Each begins `after` the inputs' places; what lies beyond the last input's target is `padding`."""

    tokens: Tokens
    kept: np.ndarray
    context: int
    after: int
    padding: int

    @property
    def shape(self) -> tuple[int, int]:
        """How many windows, and how long."""
        return len(self.kept), self.context

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, rows: slice) -> np.ndarray:
        at = self.kept[rows, None] * self.context + np.arange(self.context)
        inside = at < len(self.tokens) - 1
        return np.where(inside, self.tokens[np.where(inside, at + self.after, 0)], np.int64(self.padding))


def read(data: Data, tokenizer: Factory, context: int, cache: Path) -> Corpus:
    """Reads and tokenises a text, or takes tokens that stand ready; refuses what is shorter than the context. Tokens of
    long texts, and what was found in files of tokens, are kept in the cache folder."""
    ready = data.tokens()
    corpus = _of_text(data, tokenizer, cache) if ready is None else _of_files(ready, data.validation, tokenizer, cache)
    for name, tokens in (("training", corpus.train), ("validation", corpus.validation)):
        if len(tokens) <= context:
            raise Refused(
                f"model.context={context} is longer than the {name} split of {len(tokens)} tokens; "
                f"{f'try model.context={len(tokens) // 2} or ' if len(tokens) > 1 else ''}give more data"
            )
    return corpus


def _of_text(data: Data, make: Factory, cache: Path) -> Corpus:
    text = split(data)
    if not text.held:
        tokenizer, train, validation = tokenised(text, make, cache)
        return Corpus(train, validation, tokenizer, text.sha256)
    tokenizer = learned(text, make)
    train, validation = (tokenizer.encode("".join(part)) for part in (text.train, text.validation))
    return Corpus(train, validation, tokenizer, text.sha256)


def _of_files(ready: TokenFiles, share: float, make: Factory, cache: Path) -> Corpus:
    if make.target.learns:  # type: ignore[attr-defined]
        raise Refused(
            f"{make.path} learns from a text, and the data are tokens already; take the tokenizer that made them, "
            "such as tokenizer=gpt2"
        )
    tokenizer: Tokenizer = make()
    files = [*ready.train, *ready.validation]
    tokens = [opened(file, ready.dtype) for file in files]
    scans = scanned(files, ready.dtype, cache)
    for file, scan in zip(files, scans, strict=True):
        if scan.largest >= tokenizer.vocab:
            raise Refused(
                f"data.path: {file} has the token {scan.largest} at place {scan.at}, beyond the vocabulary of "
                f"{tokenizer.vocab}; take the tokenizer that made it, or the data.dtype that it has"
            )
    train, validation = tokens[: len(ready.train)], tokens[len(ready.train) :]
    if not validation:
        train, validation = cut(train, int(sum(map(len, train)) * (1 - share)))
    return Corpus(joined(train), joined(validation), tokenizer, total(scans))
