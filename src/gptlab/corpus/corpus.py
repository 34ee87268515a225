"""Tokens of a data set and their batches; every batch is a pure function of (seed, step)."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gptlab.config.factory import Factory
from gptlab.console.units import format_two_digits
from gptlab.corpus.data import Data, TokenFiles
from gptlab.corpus.documents import CorpusDocuments, locate_separators, locate_text_documents, number_documents
from gptlab.corpus.packing import Packing, pack_documents
from gptlab.corpus.split import split_text
from gptlab.corpus.token_files import (
    Tokens,
    combine_hashes,
    cut_tokens,
    inspect_token_file,
    join_tokens,
    memory_map,
    scan_files,
    take_windows,
)
from gptlab.corpus.tokenize import load_or_tokenize, train_tokenizer
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.errors import Refused
from gptlab.model.shape import IGNORED


@dataclass(frozen=True)
class Corpus:
    """The tokens of both splits, the tokenizer, and the sha256 of the text or of the token files.

    documents  where they begin, if the data set was asked for them
    packing    rows of whole documents to learn from; None learns from windows of the running text
    """

    train: Tokens
    validation: Tokens
    tokenizer: Tokenizer
    sha256: str
    documents: CorpusDocuments | None = field(default=None, kw_only=True)
    packing: Packing | None = field(default=None, kw_only=True)

    def batch(self, seed: int, step: int, rows: int, context: int, part: slice = slice(None)) -> np.ndarray:
        """Return (rows, context + 1) training tokens, int64, from random positions, or a part of those rows.

        They depend on nothing but the arguments and the tokens. A process that trains on some rows reads only those.
        """
        starts = self._draw_windows(seed, step, rows, context)
        return take_windows(self.train, starts[part], context + 1).astype(np.int64)

    def number_batch(
        self, seed: int, step: int, rows: int, context: int, part: slice = slice(None)
    ) -> np.ndarray | None:
        """Return the number of each input's document in that batch, (rows, context); None where none is masked."""
        if self.documents is None or self.documents.train is None:
            return None
        if self.packing is not None:
            _, numbers = self.packing.place_rows(self._draw_rows(seed, step, rows, len(self.packing)))
            return numbers[part]
        starts = self._draw_windows(seed, step, rows, context)[part]
        return number_documents(self.documents.train, starts[:, None] + np.arange(context))

    def _draw_windows(self, seed: int, step: int, rows: int, context: int) -> np.ndarray:
        """Return the positions at which the windows of a step begin, (rows,)."""
        # with replacement and over all positions, as nanoGPT draws: there are no epochs
        return self._draw_rows(seed, step, rows, len(self.train) - context)

    def _draw_rows(self, seed: int, step: int, rows: int, choices: int) -> np.ndarray:
        """Return a number below `choices` for each row of a step, (rows,)."""
        # A counter-based generator: batch k needs none of those before it, so a resumed run draws nothing again. The
        # step is the counter's second word: the first counts the draws of a batch, which steps must not share.
        rng = np.random.Generator(np.random.Philox(key=seed % 2**64, counter=[0, step, 0, 0]))
        return rng.integers(0, choices, rows)

    @property
    def weighs_rows(self) -> bool:
        """Whether rows differ in how many targets they have, so that a part of a batch is weighed by all of it."""
        return self.packing is not None and self.packing.fill < 1

    def make_batch(self, seed: int, step: int, rows: int, context: int) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs and targets of a step, (rows, context) each; targets that are IGNORED are not learnt."""
        if self.packing is not None:
            positions, _ = self.packing.place_rows(self._draw_rows(seed, step, rows, len(self.packing)))
            is_token, places = positions >= 0, np.maximum(positions, 0)
            inputs = np.where(is_token, self.train[places], 0).astype(np.int64)
            return inputs, np.where(is_token, self.train[places + 1].astype(np.int64), IGNORED)
        tokens = self.batch(seed, step, rows, context)
        return tokens[:, :-1], tokens[:, 1:]

    def find_scored_places(self, context: int) -> np.ndarray:
        """Return the place in its window of each target of the whole validation split, (targets,)."""
        return np.arange(len(self.validation) - 1) % context

    def list_difficulty(self) -> dict[str, np.ndarray]:
        """Return the difficulty of each validation target by name, (targets,) each; empty for text."""
        return {}

    def explain_missing_history(self, context: int, most: int) -> str:
        """Return why no target of the validation split stands after `most` contexts of text; "" if some do."""
        enough = len(self.validation) > most * context
        return "" if enough else f"the validation split is no longer than {most} contexts"

    def describe_size(self) -> str:
        """Return how much there is, for people."""
        size = f"{len(self.train):,} tokens to learn from, {len(self.validation):,} to be judged by"
        if self.documents is None:
            return size
        count, no_sources = len(self.documents.validation), self.documents.describe_missing_sources()
        if self.documents.train is None:
            return f"{size} ({count:,} documents{no_sources})"
        size = f"{size}, {len(self.documents.train):,} and {count:,} documents, each read as if alone{no_sources}"
        if self.packing is None:
            return size
        return f"{size}, packed into {len(self.packing):,} rows, {self.packing.fill:.1%} full"

    def describe_passes(self, tokens: int) -> str:
        """Return how often training on so many tokens reads the training split."""
        return f"{format_two_digits(tokens / len(self.train))} epochs"

    @property
    def train_tokens(self) -> int | None:
        """Size of the training split; None where it has no end."""
        return len(self.train)

    def windows(self, context: int, tokens: int | None = None, stretch: int = 1) -> "tuple[TokenWindows, TokenWindows]":
        """Return inputs and targets, (N, context) each, in which each validation token but the first is a target once.

        With `tokens`, about so many are targets, in stretches of the text spread evenly; a stretch is at least a
        window. The last window is padded with targets that the loss ignores.
        """
        # windows side by side: inputs are one token behind targets, so the first token is no target
        window_count = -(-(len(self.validation) - 1) // context)
        numbers = np.arange(window_count)
        if tokens is not None:
            together = max(1, stretch // context)  # windows of a stretch
            count = -(-tokens // (together * context))  # stretches
            if count * together < window_count:
                # without the last window, which may be padded
                last = (window_count - 1) // together - 1
                stretches = np.linspace(0, last, count).astype(int)
                numbers = (stretches[:, None] * together + np.arange(together)).ravel()
        starts = self.documents.validation if self.documents is not None and self.documents.are_kept_apart else None
        inputs = Windows(self.validation, numbers, context, shift=0, padding=0, starts=starts)
        return inputs, Windows(self.validation, numbers, context, shift=1, padding=IGNORED)


def read_windows(corpus: Corpus, context: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Return windows as arrays, for what reads them without borders of documents; refuse where these are masked."""
    if corpus.documents is not None and corpus.documents.are_kept_apart:
        raise Refused("data.mask_documents=true: this study reads windows as they stand; say data.mask_documents=false")
    inputs, targets = corpus.windows(context, tokens)
    return inputs[0 : len(inputs)], targets[0 : len(targets)]


@dataclass(frozen=True)
class Windows:
    """Windows of a token array, (N, context) of int64, made when indexed: the array may be larger than memory.

    numbers  which windows: number n begins at position n * context
    shift    0 for inputs, 1 for targets
    padding  value where the input has no target
    starts   where documents begin, if each is to be read as if alone
    """

    tokens: Tokens
    numbers: np.ndarray
    context: int
    shift: int
    padding: int
    starts: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of windows, and their length."""
        return len(self.numbers), self.context

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice) -> np.ndarray:
        # beyond the last target a token stands that nobody scores: index 0 is as good as any
        positions = self.numbers[rows, None] * self.context + np.arange(self.context)
        has_target = positions < len(self.tokens) - 1  # (rows, context)
        tokens = self.tokens[np.where(has_target, positions + self.shift, 0)]
        return np.where(has_target, tokens, np.int64(self.padding))

    def number_documents(self, rows: slice) -> np.ndarray | None:
        """Return the number of each token's document, (rows, context); None where none is masked."""
        if self.starts is None:
            return None
        return number_documents(self.starts, self.numbers[rows, None] * self.context + np.arange(self.context))

    def list_positions(self) -> np.ndarray:
        """Return the positions in the split of all tokens that are, or have, targets, in order, (targets,)."""
        positions = (self.numbers[:, None] * self.context + np.arange(self.context)).ravel()
        return positions[positions < len(self.tokens) - 1] + self.shift


TokenWindows = np.ndarray | Windows
"""Windows of tokens (N, T), int64, in memory or read when sliced."""


def build_corpus(data: Data, tokenizer_factory: Factory, context: int, cache_folder: Path) -> Corpus:
    """Read and tokenize a text, or map token files; raise Refused if a split is not longer than the context.

    Tokens of long texts and scans of token files are kept in the cache folder.
    """
    token_files = data.tokens()
    if token_files is None:
        corpus = _build_from_text(data, tokenizer_factory, cache_folder)
    else:
        corpus = _build_from_token_files(token_files, data.validation, tokenizer_factory, cache_folder)
    for name, tokens in (("training", corpus.train), ("validation", corpus.validation)):
        if len(tokens) <= context:
            shorter = f"try model.context={len(tokens) // 2} or " if len(tokens) > 1 else ""
            raise Refused(
                f"model.context={context} is longer than the {name} split of {len(tokens)} tokens; "
                f"{shorter}give more data"
            )
    return add_documents(corpus, data, context)


def add_documents(corpus: Corpus, data: Data, context: int) -> Corpus:
    """Return the corpus with its documents, if the data set was asked for them, in rows if they are to be packed."""
    if not data.asks_for_documents:
        return corpus
    token_files, masked = data.tokens(), data.mask_documents
    if token_files is None:
        lengths = corpus.tokenizer.lengths()
        documents = locate_text_documents(
            data.find_documents(), corpus.train, corpus.validation, lengths, masked=masked
        )
    else:
        names = [file.stem for file in token_files.validation]
        documents = locate_separators(
            corpus.train, corpus.validation, data.find_separator(corpus.tokenizer.vocab), names, masked=masked
        )
    packing = None
    if data.packing == "best_fit":
        assert documents.train is not None
        # the last token of all is no input: nothing follows it
        packing = pack_documents(documents.train, len(corpus.train) - 1, context)
    return replace(corpus, documents=documents, packing=packing)


def _build_from_text(data: Data, tokenizer_factory: Factory, cache_folder: Path) -> Corpus:
    text_split = split_text(data)
    # a long text: its tokens are made once and mapped from disk
    if not text_split.held:
        tokenizer, train, validation = load_or_tokenize(text_split, tokenizer_factory, cache_folder)
        return Corpus(train, validation, tokenizer, text_split.sha256)
    tokenizer = train_tokenizer(text_split, tokenizer_factory)
    # encoded apart: a token may not lie across the boundary of the splits
    train = tokenizer.encode("".join(text_split.train))
    validation = tokenizer.encode("".join(text_split.validation))
    return Corpus(train, validation, tokenizer, text_split.sha256)


def _build_from_token_files(
    token_files: TokenFiles, validation_share: float, tokenizer_factory: Factory, cache_folder: Path
) -> Corpus:
    if tokenizer_factory.target.learns:  # type: ignore[attr-defined]
        raise Refused(
            f"{tokenizer_factory.path} learns from a text, and the data are tokens already; take the tokenizer that "
            "made them, such as tokenizer=gpt2"
        )
    tokenizer: Tokenizer = tokenizer_factory()
    files = [*token_files.train, *token_files.validation]
    layouts = [inspect_token_file(file, token_files.dtype) for file in files]
    tokens = [memory_map(file, *layout) for file, layout in zip(files, layouts, strict=True)]
    # every token is looked at once: one beyond the vocabulary would end the run in mid-training, and not say where
    scans = scan_files(files, layouts, cache_folder)
    for file, scan in zip(files, scans, strict=True):
        if scan.largest >= tokenizer.vocab:
            raise Refused(
                f"data.path: {file} has the token {scan.largest} at place {scan.position}, beyond the vocabulary of "
                f"{tokenizer.vocab}; take the tokenizer that made it, or the data.dtype that it has"
            )
    train, validation = tokens[: len(token_files.train)], tokens[len(token_files.train) :]
    if not validation:
        train, validation = cut_tokens(train, int(sum(map(len, train)) * (1 - validation_share)))
    return Corpus(join_tokens(train), join_tokens(validation), tokenizer, combine_hashes(scans))
