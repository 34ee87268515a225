"""Caches for decoding: a layer's ring of rows or state of a recurrence, and an embedding's last tokens.

Entries of a ring take slots in order of arrival, so rows padded on the left share one counter. A single new entry is
written first and then looked at: exactly the key that has gone out of reach is lost. A longer chunk must look first and
forget then: written first, its last entries would wipe keys that its first entries still see.
"""

from typing import Protocol

import torch
from torch import Tensor


class LayerCache(Protocol):
    """The cache of one layer: a ring of rows, or the state of a recurrence."""

    @property
    def nbytes(self) -> int:
        """Bytes of the rows or of the state."""
        ...


class RingCache:
    """The last `capacity` entries of some rows.

    like  gives device and dtype
    past  (count, features) of the last inputs of a short convolution, which are kept beside the rows
    rows  shapes of one entry, by name
    """

    def __init__(
        self, batch: int, capacity: int, like: Tensor, past: tuple[int, int] = (0, 0), **rows: tuple[int, ...]
    ) -> None:
        self.capacity = capacity
        self.rows = {name: like.new_zeros(batch, capacity, *shape) for name, shape in rows.items()}
        self.past = like.new_zeros(batch, *past)
        # -1 is an empty slot, which no query sees
        self.positions = torch.full((batch, capacity), -1, dtype=torch.long, device=like.device)
        # A tensor, not an int, so that one compiled graph serves all steps.
        self.entries_written = torch.zeros((), dtype=torch.long, device=like.device)
        # a Python bool, so that choosing a path reads nothing back from a GPU
        self.is_empty = True

    @property
    def nbytes(self) -> int:
        return sum(row.nbytes for row in self.rows.values()) + self.past.nbytes

    def update(self, positions: Tensor, **rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Write rows (B, T, ...) at positions (B|1, T).

        Return the positions and rows of all that they may need to see.
        """
        length = positions.shape[1]
        if length == 1:
            self._write(positions, rows)
            return self.positions, self.rows
        # a prompt sees itself alone, so the empty ring need not be joined to it
        if self.is_empty:
            visible = positions, rows
        else:
            joined = {name: torch.cat([self.rows[name], rows[name]], 1) for name in rows}
            visible = torch.cat([self.positions, positions.expand(self.positions.shape[0], -1)], 1), joined
        self._write(positions, rows)
        return visible

    def take_last(self, name: str) -> Tensor:
        """Return a row's newest entry, (B, 1, ...), which is 0 where nothing was written."""
        return self.rows[name].index_select(1, ((self.entries_written - 1) % self.capacity).view(1))

    def remember(self, inputs: Tensor) -> None:
        """Keep the last of these inputs (B, T, features) of a convolution, 0 where padding stands."""
        if count := self.past.shape[1]:
            self.past.copy_(torch.cat([self.past, inputs.to(self.past.dtype)], 1)[:, -count:])

    def widen(self, spare: int) -> None:
        """Add `spare` slots while it is empty, so that entries can be taken back and none within reach is lost."""
        self.capacity += spare
        self.rows = {name: row.new_zeros(len(row), self.capacity, *row.shape[2:]) for name, row in self.rows.items()}
        self.positions = self.positions.new_full((len(self.positions), self.capacity), -1)
        # inputs that a convolution sees again once later ones are taken back
        batch, count, features = self.past.shape
        self.past = self.past.new_zeros(batch, count + spare if count else 0, features)

    def rewind(self, count: int) -> None:
        """Forget the last `count` entries, no more of them than it was widened by."""
        slots = (self.entries_written - 1 - torch.arange(count, device=self.positions.device)) % self.capacity
        # the rows may stay: a key without a position is not seen
        self.positions.index_fill_(1, slots, -1)
        self.entries_written -= count
        # the newest stand last; what comes round to the front is older than anything that will be read
        self.past = self.past.roll(count, 1)

    def _write(self, positions: Tensor, rows: dict[str, Tensor]) -> None:
        length = positions.shape[1]
        # of a chunk longer than the ring only the end stays: index_copy_ would write a slot twice, in no fixed order
        count = min(length, self.capacity)
        slots = (self.entries_written + torch.arange(length - count, length, device=positions.device)) % self.capacity
        self.positions.index_copy_(1, slots, positions[:, -count:].expand(self.positions.shape[0], -1))
        for name, row in rows.items():
            # under autocast rows come in bfloat16, while the cache has the embedding's type
            self.rows[name].index_copy_(1, slots, row[:, -count:].to(self.rows[name].dtype))
        self.entries_written += length
        self.is_empty = False


class TokenCache:
    """The last `count` tokens of some rows, for an embedding that reads them; -1 is none.

    like  gives the device
    """

    def __init__(self, batch: int, count: int, like: Tensor) -> None:
        self.count = count
        self.tokens = torch.full((batch, count), -1, dtype=torch.long, device=like.device)

    @property
    def nbytes(self) -> int:
        return self.tokens.nbytes

    def update(self, tokens: Tensor) -> Tensor:
        """Take in tokens (B, T); return them with the `count` before in front, (B, count + T)."""
        joined = torch.cat([self.tokens, tokens], 1)
        self.tokens.copy_(joined[:, -self.tokens.shape[1] :])
        return joined[:, -self.count - tokens.shape[1] :]

    def widen(self, spare: int) -> None:
        """Make room, while it is empty, for `spare` tokens that may be taken back."""
        self.tokens = self.tokens.new_full((len(self.tokens), self.count + spare), -1)

    def rewind(self, count: int) -> None:
        """Forget the last `count` tokens, no more of them than it was widened by."""
        # as the inputs of a convolution: what comes round to the front is older than anything that will be read
        self.tokens = self.tokens.roll(count, 1)


class RecurrentState:
    """State of a recurrence: some tensors for each sequence, the same size after any number of tokens.

    like  gives the device and the dtype, float32 at least: a state sums over the whole text
    rows  shapes for one sequence, by name
    """

    def __init__(self, batch: int, like: Tensor, **rows: tuple[int, ...]) -> None:
        dtype = torch.promote_types(like.dtype, torch.float32)
        self.rows = {name: like.new_zeros(batch, *shape, dtype=dtype) for name, shape in rows.items()}

    @property
    def nbytes(self) -> int:
        return sum(row.nbytes for row in self.rows.values())

    def update(self, **rows: Tensor) -> None:
        """Overwrite the state with that after the tokens just read."""
        for name, row in rows.items():
            self.rows[name].copy_(row)
