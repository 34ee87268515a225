"""Documents of a corpus: at which token each begins, in both splits.

A text knows the bytes at which its documents begin. Tokens are the same whether anybody asks for documents or not, so
that arms with and without borders differ in nothing else: a document begins with the first token that begins in it,
and one that straddles a border, as a byte pair may, is of the document before. In files of tokens a separator begins
a document, as in modded-nanogpt, wherever it was meant to stand: what follows it is predicted from it alone.

Targets are never left out. The first token of a document is asked for at the last place of the one before.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from gptlab.corpus.token_files import JoinedTokens, Tokens
from gptlab.errors import Refused

BLOCK = 2**22
"""Tokens looked at at once; the split may be larger than memory."""


class TextDocuments(NamedTuple):
    """Documents of a text, by its UTF-8 bytes.

    starts   bytes at which they begin, ascending, (D,)
    size     bytes of the text
    sources  name and first byte of each file, if there are several
    """

    starts: np.ndarray
    size: int
    sources: list[tuple[str, int]]


@dataclass(frozen=True)
class CorpusDocuments:
    """Documents of both splits, by their tokens.

    validation  first token of each document, ascending from 0, (D,)
    train       the same of the training split; None where documents are known and not masked
    sources     name and first token of each file in the validation split; none where there is one
    files       of the text that both splits are of
    """

    validation: np.ndarray
    train: np.ndarray | None = None
    sources: tuple[tuple[str, int], ...] = ()
    files: int = 1

    @property
    def are_kept_apart(self) -> bool:
        """Whether decoders read each document as if it were alone."""
        return self.train is not None

    def describe_missing_sources(self) -> str:
        """Return why a text of several files has no loss by file, for people; "" where it has, or is one file."""
        # the end of the text is often the last file alone
        is_missing = self.files > 1 and not self.sources
        return f"; no loss by file: all that is judged is in one of {self.files} files" if is_missing else ""

    def cut_validation(self, start: int, stop: int) -> "CorpusDocuments":
        """Return the documents of the validation split's tokens from `start` to `stop`."""
        sources: list[tuple[str, int]] = []
        for name, first in self.sources:
            if first <= start:
                sources = [(name, 0)]  # only the last of these reaches into the part
            elif first < stop:
                sources.append((name, first - start))
        return replace(
            self,
            validation=cut_starts(self.validation, start, stop),
            sources=tuple(sources) if len(sources) > 1 else (),
        )


def cut_starts(starts: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Return where documents begin in a part of the tokens, whose first token begins one in any case."""
    inside = starts[(starts > start) & (starts < stop)] - start
    return np.concatenate([np.zeros(1, np.int64), inside])


def number_documents(starts: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the number of the document in which each token stands, int64, for positions of any shape."""
    # from 1 on, since the first start is 0
    return np.searchsorted(starts, positions, side="right").astype(np.int64)


def count_tokens_before(starts: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return how many tokens of its own document stand before each token."""
    return positions - starts[number_documents(starts, positions) - 1]


def name_sources(sources: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return files with the shortest names that tell them apart; none where there is one file."""
    if len(sources) < 2:
        return []
    folder = os.path.commonpath([os.path.dirname(file) for file, _ in sources])
    return [(os.path.relpath(file, folder or None), first) for file, first in sources]


def locate_text_documents(
    documents: TextDocuments, train: Tokens, validation: Tokens, lengths: np.ndarray, *, masked: bool
) -> CorpusDocuments:
    """Find the documents of a text in its tokens, which are `lengths` bytes long, (V,).

    Raises Refused where tokens and text are not as long as each other.
    """
    # in bytes of the text; the validation split is its end, and shorter to count
    border = documents.size - count_bytes(validation, lengths)
    # the training split is read only where somebody needs it
    if border < 0 or (masked and count_bytes(train, lengths) != border):
        raise Refused(
            f"data.documents: the text of {documents.size} bytes and its tokens are not of one length; start again if "
            "it changed meanwhile, or take a tokenizer of bytes such as tokenizer=bpe"
        )
    names, bytes_in_split = [], []
    for name, first in documents.sources:
        if first <= border:
            # of the files before the border only the last reaches beyond it
            names, bytes_in_split = [name], [0]
        else:
            names.append(name)
            bytes_in_split.append(first - border)
    firsts = locate_bytes(validation, lengths, np.array(bytes_in_split, np.int64))
    return CorpusDocuments(
        validation=find_starts(validation, lengths, documents.starts - border),
        train=find_starts(train, lengths, documents.starts) if masked else None,
        sources=tuple(zip(names, firsts.tolist(), strict=True)) if len(names) > 1 else (),
        files=max(len(documents.sources), 1),
    )


def locate_separators(
    train: Tokens, validation: Tokens, separator: int, names: list[str], *, masked: bool
) -> CorpusDocuments:
    """Find the documents of files of tokens: each begins with the token `separator`, or with its file.

    names  of the validation split's files
    """
    parts = validation.parts if isinstance(validation, JoinedTokens) else [validation]
    firsts = np.cumsum([0, *(len(part) for part in parts)])[:-1]
    several = len(names) == len(parts) > 1
    return CorpusDocuments(
        validation=find_separators(validation, separator),
        train=find_separators(train, separator) if masked else None,
        sources=tuple(zip(names, firsts.tolist(), strict=True)) if several else (),
    )


def find_separators(tokens: Tokens, separator: int) -> np.ndarray:
    """Return where a file begins or a separator stands, ascending from 0."""
    # a document does not go on in the next file, separator or not
    files = tokens.ends[:-1] if isinstance(tokens, JoinedTokens) else []
    places = [begin + np.flatnonzero(block == separator) for begin, block in iterate_blocks(tokens)]
    return np.unique(np.concatenate([[0], files, *places])).astype(np.int64)


def find_starts(tokens: Tokens, lengths: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the first tokens of documents that begin at these bytes, ascending from 0, without those elsewhere."""
    places = locate_bytes(tokens, lengths, starts[starts > 0])
    return np.unique(np.concatenate([[0], places[places < len(tokens)]])).astype(np.int64)


def locate_bytes(tokens: Tokens, lengths: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the first token that begins at or after each byte, for bytes in ascending order.

    It is the number of tokens where none does.
    """
    located = np.full(len(places), len(tokens), np.int64)
    passed = done = 0
    for begin, block in iterate_blocks(tokens):
        # bytes of each token, (N,)
        sizes = lengths[block]
        ends = passed + np.cumsum(sizes)
        # a byte inside the last token of a block is followed by the first token of the next block
        until = int(np.searchsorted(places, ends[-1], side="left"))
        # ends - sizes: the byte at which each token begins
        located[done:until] = begin + np.searchsorted(ends - sizes, places[done:until], side="left")
        passed, done = int(ends[-1]), until
    return located


def count_bytes(tokens: Tokens, lengths: np.ndarray) -> int:
    """Return the bytes of a text from its tokens."""
    return sum(int(lengths[block].sum()) for _, block in iterate_blocks(tokens))


def iterate_blocks(tokens: Tokens) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the tokens in blocks, each with the position at which it begins."""
    for begin in range(0, len(tokens), BLOCK):
        yield begin, tokens[begin : begin + BLOCK]
