"""Windows of streamed tokens by their number: those of a block are read when the first is asked for, or before."""

from bisect import bisect_right
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

import numpy as np

from gptlab.corpus.streaming.chunk_reader import Border, Chunk, ChunkReader
from gptlab.corpus.task_corpus import open_stream
from gptlab.errors import Refused

ORDER, SHUFFLE = 3, 4
"""Streams of random numbers: of files and row groups by epoch, of windows by block."""


class TokenStream:
    """The windows of one seed and context, numbered from 0 without end.

    All reading is done by one thread, which is a block ahead of what is asked for; numbers that lie in a block
    that was given up, as after a resume, have it read again.
    """

    def __init__(self, reader: ChunkReader, border: Border, *, seed: int, context: int, buffer: int) -> None:
        self.reader, self.border = reader, border
        self.seed, self.context, self.buffer = seed, context, buffer
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="stream")
        self._drawn = self._draw_blocks()
        self.blocks: list[list[Chunk]] = []
        self.ends: list[int] = []  # the windows up to the end of each block
        self._just_read: tuple[int, np.ndarray] | None = None
        self._loads: dict[int, Future[tuple[np.ndarray, np.ndarray]]] = {}

    def take_windows(self, numbers: np.ndarray) -> np.ndarray:
        """Return windows, (N, context + 1), by their ascending numbers, (N,)."""
        last = int(numbers[-1])
        if not self.ends or self.ends[-1] <= last:
            self._worker.submit(self._count_up_to, last).result()
        blocks = [bisect_right(self.ends, number) for number in numbers.tolist()]
        needed = range(blocks[0], blocks[-1] + 2)  # one more than is needed now
        self._loads = {block: load for block, load in self._loads.items() if block in needed}
        for block in needed:
            if block not in self._loads:
                self._loads[block] = self._worker.submit(self._load_block, block)
        rows = []
        for block, number in zip(blocks, numbers.tolist(), strict=True):
            tokens, order = self._loads[block].result()
            start = int(order[number - (self.ends[block - 1] if block else 0)]) * self.context
            rows.append(tokens[start : start + self.context + 1])
        return np.stack(rows)

    def _count_up_to(self, number: int) -> None:
        """Draw blocks until one has this window; those whose tokens were never counted are read."""
        while not self.ends or self.ends[-1] <= number:
            self._count_next_block()

    def _count_next_block(self) -> None:
        block = next(self._drawn)
        counts = [self.reader.ledger.tokens.get(chunk) for chunk in block]
        if None in counts:
            tokens = self._read_block(block)
            self._just_read = (len(self.ends), tokens)
            counts = [len(tokens)]
        # side by side, and each needs one token more as its last target
        windows = max(0, (sum(filter(None, counts)) - 1) // self.context)
        self.blocks.append(block)
        self.ends.append((self.ends[-1] if self.ends else 0) + windows)

    def _load_block(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens of a block and the order of its windows."""
        while len(self.ends) <= number:
            self._count_next_block()
        if self._just_read is not None and self._just_read[0] == number:
            tokens, self._just_read = self._just_read[1], None
        else:
            tokens = self._read_block(self.blocks[number])
        windows = self.ends[number] - (self.ends[number - 1] if number else 0)
        return tokens, open_stream(SHUFFLE, self.seed, number).permutation(windows)

    def _read_block(self, block: list[Chunk]) -> np.ndarray:
        return np.concatenate([self.reader.read_tokens(chunk) for chunk in block])

    def _draw_blocks(self) -> Iterator[list[Chunk]]:
        """Yield the chunks of each block, epoch by epoch; raise Refused if an epoch has no window."""
        epoch = 0
        while True:
            windows_before = self.ends[-1] if self.ends else 0
            block: list[Chunk] = []
            for chunk in self._draw_chunks(epoch):
                block.append(chunk)
                if sum(chunk.rows for chunk in block) >= self.buffer:
                    yield block
                    block = []
            if block:
                yield block
            if not self.ends or self.ends[-1] == windows_before:
                raise Refused(
                    f"model.context={self.context} is longer than any {self.buffer} documents of "
                    f"data.path={self.reader.path}; give more text, or a larger data.buffer"
                )
            epoch += 1

    def _draw_chunks(self, epoch: int) -> Iterator[Chunk]:
        """Yield all chunks of an epoch, in the order of its seed."""
        random = open_stream(ORDER, self.seed, epoch)
        for file in random.permutation(len(self.reader.source.names)).tolist():
            groups = self.reader.list_chunks(file, self.border)
            yield from chain.from_iterable(groups[group] for group in random.permutation(len(groups)).tolist())
