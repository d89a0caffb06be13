"""Which sequences share a row. Planned on lengths alone: no token is read or copied here."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Strategy = Literal["bfd", "bfd_split", "wrapped"]


@dataclass(frozen=True, eq=False)
class Packed:
    """Which pieces of which sequences stand in which row, in order.

    Shapes: P = pieces, R = rows. A piece is at least one token; a sequence without tokens has no piece.
    """

    sequence: NDArray[np.int64]
    """[P] Number of the sequence a piece comes from."""
    start: NDArray[np.int32]
    """[P] First token of the piece, counted within its sequence."""
    stop: NDArray[np.int32]
    """[P] One past its last token."""
    ends: NDArray[np.int64]
    """[R] Row r holds the pieces `ends[r-1]` to `ends[r]`."""

    def __len__(self) -> int:
        return len(self.ends)


def pack(lengths: ArrayLike, max_length: int, strategy: Strategy) -> Packed:
    """Place sequences in rows of at most `max_length` tokens. The same lengths give the same rows, on any machine.

    `bfd` and `bfd_split` are best-fit decreasing over the whole set: from the longest piece to the shortest, each goes
    into the fullest row that still has room for it, of equally full ones the one that has been so longest, or opens a
    new one. Pieces of equal length keep the order given. Rows stand in the order in which they were opened, so the first holds the longest piece and the last short ones
    only; within a row, pieces stand from the longest to the shortest. `bfd` cuts a sequence off at `max_length`,
    `bfd_split` packs what is beyond as further pieces. `wrapped` keeps the order given, fills each row but the last
    to the last token and cuts anywhere.

    Args:
        lengths: tokens in each sequence, each from 0 to 2^31 - 1.
        max_length: tokens a row can hold, at least 1.
        strategy: how sequences are placed.

    Source: Johnson et al., 1974, doi:10.1137/0203025 (best-fit decreasing); Krell et al., 2021, arXiv:2107.02027,
    section 3 (on a histogram of lengths).
    """
    tokens = np.asarray(lengths, dtype=np.int64)
    if strategy == "wrapped":
        return _wrapped(tokens, max_length)
    pieces = _split(tokens, max_length) if strategy == "bfd_split" else _cut(tokens, max_length)
    return _best_fit_decreasing(*pieces, max_length)


def _cut(tokens: NDArray[np.int64], max_length: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """One piece for each sequence: its number, where it starts, how long it is."""
    sequence = np.flatnonzero(tokens)
    return sequence, np.zeros_like(sequence), np.minimum(tokens[sequence], max_length)


def _split(
    tokens: NDArray[np.int64], max_length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """As many pieces for each sequence as it takes, all of `max_length` but its last."""
    pieces = -(-tokens // max_length)
    sequence = np.repeat(np.arange(len(tokens)), pieces)
    first = np.repeat(np.cumsum(pieces) - pieces, pieces)
    start = (np.arange(len(sequence)) - first) * max_length
    return sequence, start, np.minimum(tokens[sequence] - start, max_length)


def _wrapped(tokens: NDArray[np.int64], max_length: int) -> Packed:
    sequence = np.flatnonzero(tokens)
    after = np.cumsum(tokens)[sequence]
    before = after - tokens[sequence]
    pieces = (after - 1) // max_length - before // max_length + 1
    first = np.repeat(np.cumsum(pieces) - pieces, pieces)
    before, after = np.repeat(before, pieces), np.repeat(after, pieces)
    row = before // max_length + np.arange(len(before)) - first
    return Packed(
        sequence=np.repeat(sequence, pieces),
        start=(np.maximum(before, row * max_length) - before).astype(np.int32),
        stop=(np.minimum(after, (row + 1) * max_length) - before).astype(np.int32),
        ends=np.cumsum(np.bincount(row)),
    )


class _Bins(NamedTuple):
    """Rows opened together that were given the same lengths since: they have the same room and as many pieces."""

    first: int
    number: int
    pieces: int


@dataclass
class _Placing:
    """The state of best-fit decreasing on a histogram: rows by the room they have, and what was put where.

    A row with room r takes r // L pieces of length L before any other row does, since what room it then has is less
    still. So all pieces of one length, and all rows of one history, are placed in one step.
    """

    capacity: int
    rows: int = 0
    rooms: list[int] = field(default_factory=list)
    """Each amount of room that some row has, ascending; full rows are not looked at again."""
    by_room: dict[int, deque[_Bins]] = field(default_factory=dict)
    placed: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Pieces placed, each, first row, pieces the row held before: one entry for each step, in order of pieces."""

    def place(self, length: int, pieces: int) -> None:
        """Put that many pieces of one length in the fullest rows that have room, then in new ones."""
        while pieces:
            at = bisect_left(self.rooms, length)
            if at < len(self.rooms):
                room = self.rooms[at]
                bins = self._take(room)
            else:
                room = self.capacity
                bins = _Bins(self.rows, -(-pieces // (room // length)), 0)
                self.rows += bins.number
            pieces -= self._fill(bins, room, length, pieces)

    def _fill(self, bins: _Bins, room: int, length: int, pieces: int) -> int:
        each = room // length
        full = min(bins.number, pieces // each)
        rest = pieces - full * each if full < bins.number else 0
        self.placed.append((full * each + rest, each, bins.first, bins.pieces))
        self._give(room - each * length, _Bins(bins.first, full, bins.pieces + each))
        if full < bins.number:
            untouched = full + (rest > 0)
            self._give(room - rest * length, _Bins(bins.first + full, int(rest > 0), bins.pieces + rest))
            self._give(room, _Bins(bins.first + untouched, bins.number - untouched, bins.pieces), front=True)
        return full * each + rest

    def _take(self, room: int) -> _Bins:
        """The rows with that room that have had it longest."""
        waiting = self.by_room[room]
        bins = waiting.popleft()
        if not waiting:
            del self.by_room[room], self.rooms[bisect_left(self.rooms, room)]
        return bins

    def _give(self, room: int, bins: _Bins, *, front: bool = False) -> None:
        if not room or not bins.number:
            return
        if room not in self.by_room:
            self.by_room[room] = deque()
            insort(self.rooms, room)
        (self.by_room[room].appendleft if front else self.by_room[room].append)(bins)


def _best_fit_decreasing(
    sequence: NDArray[np.int64], start: NDArray[np.int64], length: NDArray[np.int64], max_length: int
) -> Packed:
    # numpy sorts 16 bits by radix, in linear time, and keeps the order of equals.
    short: type[np.unsignedinteger[Any]] = np.uint16 if max_length < 2**16 else np.uint32
    order = np.argsort((max_length - length).astype(short), kind="stable")
    placing = _Placing(max_length)
    counts = np.bincount(length)
    for value in np.flatnonzero(counts)[::-1].tolist():
        placing.place(value, int(counts[value]))
    row, slot = _positions(placing.placed)
    ends = np.cumsum(np.bincount(row, minlength=placing.rows))
    where = np.concatenate([[0], ends])[row] + slot
    piece = np.empty_like(order)
    piece[where] = order
    return Packed(sequence[piece], start[piece].astype(np.int32), (start + length)[piece].astype(np.int32), ends)


def _positions(placed: list[tuple[int, int, int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row of each piece, and how many pieces stand before it in that row."""
    steps = np.array(placed, dtype=np.int64).reshape(-1, 4)
    pieces, each, first, held = (np.repeat(column, steps[:, 0]) for column in steps.T)
    row, slot = np.divmod(np.arange(len(pieces)) - np.repeat(np.cumsum(steps[:, 0]) - steps[:, 0], steps[:, 0]), each)
    return first + row, held + slot
