"""Rows for the trainer, gathered from shards and written as a `datasets` folder, some million tokens at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from launcher.worker.data.encode import IGNORED
from launcher.worker.data.packing import Packed
from launcher.worker.data.shards import SourceRows

Numbers = NDArray[np.int64]

_TOKENS_AT_ONCE = 4 * 2**20
_TOKENS_PER_FILE = 64 * 2**20


@dataclass(frozen=True)
class Sequences:
    """Rows of one or more sources in the order in which they are used. [N] each."""

    sources: Sequence[SourceRows]
    source: NDArray[np.int32]
    row: Numbers
    length: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, order: Numbers) -> Sequences:
        """The same rows in another order, or some of them."""
        return Sequences(self.sources, self.source[order], self.row[order], self.length[order])


def sequences(sources: Sequence[SourceRows], rows: Sequence[Numbers]) -> Sequences:
    """The given rows of each source, one source after the other."""
    numbers = np.repeat(np.arange(len(sources), dtype=np.int32), [len(each) for each in rows])
    lengths = [source.lengths[each] for source, each in zip(sources, rows, strict=True)]
    return Sequences(sources, numbers, np.concatenate(rows), np.concatenate(lengths))


def unpacked(lengths: NDArray[np.int32], max_length: int) -> Packed:
    """Each sequence as a row of its own, cut at `max_length`."""
    number = len(lengths)
    stop = np.minimum(lengths, max_length).astype(np.int32)
    return Packed(np.arange(number), np.zeros(number, np.int32), stop, np.arange(1, number + 1))


@dataclass(frozen=True)
class Written:
    """What was written: rows without fillers, tokens, tokens that are predicted and trained (in all, by source), and a hash."""

    rows: int
    fillers: int
    tokens: int
    trained: int
    trained_by_source: tuple[int, ...]
    sha256: str


def write(folder: Path, taken: Sequences, plan: Packed, *, packed: bool, fillers: int = 0, pad: int = 0) -> Written:
    """Write `input_ids` and `labels` (and `seq_lengths`, when packed) of each planned row, then filler rows.

    A filler is two pad tokens without labels: it carries no loss and makes an epoch whole batches.
    """
    out = _Folder(folder, packed=packed)
    trained_by_source = np.zeros(len(taken.sources), np.int64)
    tokens = 0
    for first, last in _blocks(plan):
        pieces = slice(int(plan.ends[first - 1]) if first else 0, int(plan.ends[last - 1]))
        where = plan.sequence[pieces]
        sizes = plan.stop[pieces] - plan.start[pieces]
        ids, trained = gathered(taken, where, plan.start[pieces], sizes)
        ends = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        predicted = trained.copy()
        predicted[ends[:-1]] = False  # nothing stands before the first token of a piece to predict it
        borders = np.concatenate([[0], plan.ends[first:last] - pieces.start])
        # TRL's collator takes that label away where rows are packed; unpacked rows keep the labels TRL itself gives them.
        labelled = predicted if packed else trained
        out.add(ids, np.where(labelled, ids, IGNORED).astype(np.int32), ends[borders], sizes, borders)
        by_piece = np.add.reduceat(predicted, ends[:-1], dtype=np.int64)
        np.add.at(trained_by_source, taken.source[where], by_piece)
        tokens += len(ids)
        for source in taken.sources:
            for shard in source.shards:
                shard.forget()
    out.add_fillers(fillers, pad)
    sha256 = out.close()
    trained_all = int(trained_by_source.sum())
    return Written(len(plan.ends), fillers, tokens, trained_all, tuple(trained_by_source.tolist()), sha256)


def _blocks(plan: Packed) -> Iterator[tuple[int, int]]:
    """Runs of rows of about `_TOKENS_AT_ONCE` tokens: first row, row behind the last."""
    sizes = np.cumsum(plan.stop - plan.start, dtype=np.int64)
    row_ends = sizes[plan.ends - 1] if len(plan.ends) else np.empty(0, np.int64)
    first = 0
    while first < len(row_ends):
        done = int(row_ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(row_ends, done + _TOKENS_AT_ONCE)))
        yield first, last
        first = last


def gathered(
    taken: Sequences, where: Numbers, start: NDArray[np.int32], sizes: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Token ids of pieces one behind the other, and whether each is trained.

    Shapes: P = pieces, T = tokens of all of them.

    Args:
        taken: the sequences.
        where: [P] the sequence of each piece.
        start: [P] first token of each piece within its sequence.
        sizes: [P] tokens of each piece.

    Returns:
        [T] ids, [T] trained.
    """
    out = np.cumsum(sizes, dtype=np.int64) - sizes
    total = int(sizes.sum(dtype=np.int64))
    ids = np.empty(total, np.int32)
    steps = np.zeros(total + 1, np.int32)
    for number, source in enumerate(taken.sources):
        mine = np.flatnonzero(taken.source[where] == number)
        rows = taken.row[where[mine]]
        shard_of = np.searchsorted(source.starts, rows, side="right") - 1
        for shard_number in np.unique(shard_of).tolist():
            some = shard_of == shard_number
            pieces, local = mine[some], rows[some] - source.starts[shard_number]
            shard = source.shards[shard_number]
            values, borders = shard.ids
            begin = borders[local].astype(np.int64) + start[pieces]
            ids[_ranges(out[pieces], sizes[pieces])] = values[_ranges(begin, sizes[pieces])]
            _mark(steps, shard.spans, local, out[pieces], start[pieces], sizes[pieces])
    return ids, np.cumsum(steps[:-1], dtype=np.int32) > 0


def _ranges(begin: Numbers, sizes: NDArray[np.int32]) -> Numbers:
    """begin[0], begin[0]+1, … for sizes[0] numbers, then the same for the next."""
    ends = np.cumsum(sizes, dtype=np.int64)
    places: Numbers = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(begin - (ends - sizes), sizes)
    return places


def _mark(
    steps: NDArray[np.int32],
    spans: tuple[NDArray[np.int32], NDArray[np.int32]],
    rows: Numbers,
    out: Numbers,
    start: NDArray[np.int32],
    sizes: NDArray[np.int32],
) -> None:
    """Add +1 where a trained span begins and −1 behind its end, for pieces that begin at `out`."""
    values, borders = spans
    counts = (borders[rows + 1] - borders[rows]) // 2
    at = _ranges(borders[rows].astype(np.int64) // 2, counts)
    piece = np.repeat(np.arange(len(rows)), counts)
    begin = np.clip(values[0::2][at] - start[piece], 0, sizes[piece])
    end = np.clip(values[1::2][at] - start[piece], 0, sizes[piece])
    np.add.at(steps, out[piece] + begin, 1)
    np.add.at(steps, out[piece] + end, -1)


class _Folder:
    """A `datasets` folder that is written in parts, with a hash of all that goes into it."""

    def __init__(self, folder: Path, *, packed: bool) -> None:
        import datasets

        number = datasets.List(datasets.Value("int32"))
        self.features = datasets.Features(
            {"input_ids": number, "labels": number} | ({"seq_lengths": number} if packed else {})
        )
        self.folder = folder
        self.packed = packed
        self.digest = hashlib.sha256()
        self.files: list[str] = []
        self.room = 0
        self.writer: Any = None
        folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        ids: NDArray[np.int32],
        labels: NDArray[np.int32],
        ends: Numbers,
        pieces: NDArray[np.int32],
        borders: Numbers,
    ) -> None:
        """Append rows: row r is tokens ends[r]:ends[r+1], and pieces borders[r]:borders[r+1]."""
        for block in (ids, labels, ends):
            self.digest.update(np.ascontiguousarray(block).tobytes())
        columns = [_lists(ends, ids), _lists(ends, labels)]
        if self.packed:
            columns.append(_lists(borders, pieces.astype(np.int32)))
        if self.room < len(ids):
            self._next_file()
        self.writer.write_batch(pa.record_batch(columns, schema=self.features.arrow_schema))
        self.room -= len(ids)

    def add_fillers(self, number: int, pad: int) -> None:
        """Append `number` rows of two pad tokens without labels."""
        if number:
            ends = np.arange(number + 1, dtype=np.int64)
            ids = np.full(2 * number, pad, np.int32)
            self.add(ids, np.full(2 * number, IGNORED, np.int32), 2 * ends, np.full(number, 2, np.int32), ends)

    def close(self) -> str:
        """Write what `datasets.load_from_disk` needs beside the rows; returns the hash."""
        import datasets

        if self.writer is None:
            self._next_file()
        self.writer.close()
        datasets.DatasetInfo(features=self.features).write_to_directory(str(self.folder))
        state: dict[str, Any] = {
            "_data_files": [{"filename": name} for name in self.files],
            "_fingerprint": self.digest.hexdigest()[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        (self.folder / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
        return self.digest.hexdigest()

    def _next_file(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.files.append(f"data-{len(self.files):05d}.arrow")
        self.writer = pa.ipc.new_stream(str(self.folder / self.files[-1]), self.features.arrow_schema)
        self.room = _TOKENS_PER_FILE


def _lists(ends: Numbers, values: NDArray[np.int32]) -> Any:
    return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), pa.array(values))
