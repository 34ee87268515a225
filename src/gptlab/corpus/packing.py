"""Rows of whole documents: best-fit packing (Ding 2024, arXiv:2404.10830).

A window of running text cuts the document at each of its ends. Here no document is cut that is no longer than a row;
of longer ones all but the rest fills rows of its own. Pieces go into rows by best-fit decreasing: the longest first,
each into the fullest row that has room for it, or a new one. What stays empty in a row is padding, at its end, that
nobody is asked for.

The target of a piece's last token is the token that follows it in the corpus, as in a window, so that every target of
the split is in exactly one row. Departures: rows are drawn with replacement, as windows are, since batch k depends on
nothing but the seed and k; and a row is of inputs, where the paper counts a document with its separator.
"""

from dataclasses import dataclass

import numpy as np

from gptlab.console.progress import delayed_progress


@dataclass(frozen=True)
class Packing:
    """Rows of pieces of documents; each piece is a stretch of the corpus.

    context  tokens of a row
    firsts   position in the corpus at which each piece begins, row after row, (P,)
    lengths  tokens of each piece, (P,)
    ends     number of pieces up to the end of each row, (R,)
    """

    context: int
    firsts: np.ndarray
    lengths: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def fill(self) -> float:
        """Share of all rows that is no padding."""
        return int(self.lengths.sum()) / (len(self) * self.context)

    def place_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the corpus position of each token of some rows, -1 for padding, and its piece, (B, context) each.

        Pieces are numbered within their row, from 0; padding is a piece of its own.
        """
        positions = np.full((len(rows), self.context), -1, np.int64)
        numbers = np.empty_like(positions)
        for row, out, number in zip(rows, positions, numbers, strict=True):
            pieces = slice(self.ends[row - 1] if row else 0, self.ends[row])
            firsts, lengths = self.firsts[pieces], self.lengths[pieces]
            stops = lengths.cumsum()
            count = int(stops[-1])
            # where a piece begins in the corpus, less where it begins in the row
            out[:count] = np.arange(count) + np.repeat(firsts - (stops - lengths), lengths)
            number[:] = len(lengths)
            number[:count] = np.repeat(np.arange(len(lengths)), lengths)
        return positions, numbers


def pack_documents(starts: np.ndarray, count: int, context: int) -> Packing:
    """Pack documents that begin at `starts`, ascending from 0, of the first `count` tokens into rows."""
    starts = starts[starts < count]
    # of a document longer than a row: the first pieces fill rows, and the last one is packed
    full_pieces, rest = np.divmod(np.diff(starts, append=count), context)  # of each document
    in_document = np.arange(full_pieces.sum()) - np.repeat(full_pieces.cumsum() - full_pieces, full_pieces)
    full_firsts = np.repeat(starts, full_pieces) + in_document * context
    rest_firsts, rest_lengths = (starts + full_pieces * context)[rest > 0], rest[rest > 0]
    # rows of full pieces come first
    full_rows = np.arange(len(full_firsts))
    rest_rows = len(full_rows) + fit_best(rest_lengths, context)
    firsts = np.concatenate([full_firsts, rest_firsts])
    lengths = np.concatenate([np.full(len(full_rows), context), rest_lengths])
    rows = np.concatenate([full_rows, rest_rows])
    # in a row by their place in the corpus
    order = np.lexsort((firsts, rows))
    return Packing(context, firsts[order], lengths[order], ends=np.bincount(rows).cumsum())


def fit_best(sizes: np.ndarray, capacity: int) -> np.ndarray:
    """Return the bin of each item, (N,), by best-fit decreasing, of sizes from 1 to `capacity`; bins from 0 on."""
    bins = np.empty(len(sizes), np.int64)
    # bins by what they have left; bit r of `open_rooms` says that some have r left, so that the least room that is
    # enough is found by shifting, whatever the number of bins
    by_room: dict[int, list[int]] = {}
    open_rooms = bin_count = 0
    with delayed_progress("packing the documents", len(sizes)) as progress:
        for item in np.argsort(-sizes, kind="stable"):
            size = int(sizes[item])
            if enough := open_rooms >> size:
                # the lowest bit that is set
                room = size + (enough & -enough).bit_length() - 1
                chosen = by_room[room].pop()
                if not by_room[room]:
                    open_rooms ^= 1 << room
            else:
                room, chosen = capacity, bin_count
                bin_count += 1
            bins[item] = chosen
            if left := room - size:
                by_room.setdefault(left, []).append(chosen)
                open_rooms |= 1 << left
            progress.advance(1)
    return bins
