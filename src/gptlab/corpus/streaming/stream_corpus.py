"""A corpus whose training split is streamed; the validation split is its first documents, held in memory."""

import hashlib
import json
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from gptlab.config.factory import Factory
from gptlab.corpus.corpus import Corpus
from gptlab.corpus.data import StreamedData
from gptlab.corpus.streaming.chunk_reader import SEPARATOR, Border, ChunkReader
from gptlab.corpus.streaming.token_ledger import TokenLedger
from gptlab.corpus.streaming.token_stream import TokenStream
from gptlab.corpus.tokenize import list_tokenizer_ingredients
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.errors import Refused


@dataclass(frozen=True)
class StreamCorpus(Corpus):
    """Streamed documents; `train` is the first chunk of them, for what wants some text that is learnt from.

    border   where training begins
    buffer   documents whose windows are shuffled
    streams  by seed and context
    """

    reader: ChunkReader
    border: Border
    buffer: int
    streams: dict[tuple[int, int], TokenStream] = field(default_factory=dict)

    def batch(self, seed: int, step: int, rows: int, context: int, part: slice = slice(None)) -> np.ndarray:
        """Return the windows of a step, or a part of them; each token is a target once an epoch."""
        key = (seed, context)
        if key not in self.streams:
            self.streams[key] = TokenStream(self.reader, self.border, seed=seed, context=context, buffer=self.buffer)
        numbers = np.arange(step * rows, (step + 1) * rows)[part]
        return self.streams[key].take_windows(numbers).astype(np.int64)

    def describe_size(self) -> str:
        return f"tokens to learn from as they come, {len(self.validation):,} to be judged by"

    def describe_passes(self, tokens: int) -> str:
        return "each once before any is seen twice"

    @property
    def train_tokens(self) -> None:
        return None


def build_stream_corpus(
    data: StreamedData, tokenizer_factory: Factory, context: int, cache_folder: Path
) -> StreamCorpus:
    """Read the first documents; raise Refused if they are no longer than the context or nothing is behind them."""
    tokenizer: Tokenizer = tokenizer_factory()
    source = data.find_source(cache_folder)
    identity = json.dumps([source.identity, data.column])
    ingredients = json.dumps([identity, list_tokenizer_ingredients(tokenizer_factory)])
    key = hashlib.sha256(ingredients.encode()).hexdigest()[:16]
    ledger = TokenLedger(cache_folder / f"stream-{key}" / "counts.jsonl")
    reader = ChunkReader(source, data.path, data.column, tokenizer=tokenizer, ledger=ledger)
    texts, border = reader.read_first_texts(data.validation_documents)
    validation = tokenizer.encode(SEPARATOR.join(texts))
    if len(validation) <= context:
        raise Refused(
            f"model.context={context} is longer than the validation split of {len(validation)} tokens; "
            f"give more of data.validation_documents={data.validation_documents}"
        )
    first_chunk = next(
        chunk
        for file in range(border.file, len(source.names))
        for chunk in chain.from_iterable(reader.list_chunks(file, border))
    )
    return StreamCorpus(
        train=reader.read_tokens(first_chunk),
        validation=validation,
        tokenizer=tokenizer,
        sha256=hashlib.sha256(json.dumps([identity, data.validation_documents]).encode()).hexdigest(),
        reader=reader,
        border=border,
        buffer=data.buffer,
    )
