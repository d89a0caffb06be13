"""Training rows that an eval set has too, whole or in large part.

Two rows are compared by their runs of 10 tokens (n-grams). A training row is contaminated when it covers at least half
of the tokens of an eval row, or half of those of its prompt, and at least 20 of them; shorter rows are compared as a
whole. Runs that tell nothing do not count: those that two eval
rows share, and those in more than one in a hundred training rows (and in more than 10): a system prompt, an instruction, a template.

Source: n-grams of tokens as in Touvron et al., 2023 (Llama 2), A.6; half of the eval row covered by one training row as
in Lambert et al., 2024 (Tülu 3), 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from launcher.worker.data.shards import Shard, SourceRows

Numbers = NDArray[np.int64]

RUN = 10
_HALF = 0.5
_RARE_ROWS, _RARE_SHARE = 10, 0.01
_BASE = np.uint64(0x9E3779B97F4A7C15)
_TABLE_BITS = 22


@dataclass(frozen=True)
class Leak:
    """A training row and the eval row that it covers."""

    label: str
    row: int
    measured: EvalRows
    eval_row: int


@dataclass(frozen=True, eq=False)
class EvalRows:
    """Rows of one eval set that come from one source."""

    label: str
    source: SourceRows
    rows: Numbers


def leaks(sources: Sequence[SourceRows], usable: Mapping[str, Numbers], measured: Sequence[EvalRows]) -> list[Leak]:
    """The contaminated rows of the training sources, in order; of several eval rows, the first is named."""
    known = _Known(measured)
    found: list[Leak] = []
    rare = max(_RARE_ROWS, round(_RARE_SHARE * sum(map(len, usable.values()))))
    hits = _Hits(len(known.runs), rare)
    for source in sources:
        rows = usable[source.label]
        likely = rows[np.isin(source.keys[rows, 0], known.first_halves)]
        found += [
            Leak(source.label, row, *known.names[known.by_key[key]])
            for row in likely.tolist()
            if (key := _key(source, row)) in known.by_key
        ]
        hits.scan(source, usable[source.label], known)
    equal = {(leak.label, leak.row) for leak in found}
    found += [leak for leak in hits.judged(known) if (leak.label, leak.row) not in equal]
    order = {source.label: number for number, source in enumerate(sources)}
    return sorted(found, key=lambda leak: (order[leak.label], leak.row))


def _key(source: SourceRows, row: int) -> bytes:
    return bytes(source.keys[row].tobytes())


class _Known:
    """The distinct eval rows, and their telling runs: each in one eval row only."""

    def __init__(self, measured: Sequence[EvalRows]) -> None:
        self.names: list[tuple[EvalRows, int]] = []
        self.by_key: dict[bytes, int] = {}
        self.prompt_ends: list[int] = []
        self.runs, self.table = np.empty(0, np.uint64), np.zeros(1 << _TABLE_BITS, bool)
        self.owners, self.places = np.empty(0, np.int64), np.empty(0, np.int64)
        hashes, owners, places = [], [], []
        for part in measured:
            for row in part.rows.tolist():
                key = _key(part.source, row)
                if key in self.by_key:
                    continue
                self.by_key[key] = number = len(self.names)
                self.names.append((part, row))
                self.prompt_ends.append(int(part.source.first[row]))
                runs = runs_of(_ids(part.source, row))
                hashes.append(runs)
                owners.append(np.full(len(runs), number, np.int64))
                places.append(np.arange(len(runs), dtype=np.int64))
        self.first_halves = np.array([np.frombuffer(key, np.uint64)[0] for key in self.by_key], np.uint64)
        if hashes:
            self._keep(np.concatenate(hashes), np.concatenate(owners), np.concatenate(places))

    def _keep(self, hashes: NDArray[np.uint64], owners: Numbers, places: Numbers) -> None:
        order = np.lexsort((places, owners, hashes))
        hashes, owners, places = hashes[order], owners[order], places[order]
        first = np.concatenate([np.ones(min(1, len(hashes)), bool), hashes[1:] != hashes[:-1]])
        group = np.cumsum(first) - 1
        shared = np.zeros(int(first.sum()), bool)
        np.logical_or.at(shared, group, owners != owners[first][group])
        keep = first & ~shared[group]
        self.runs, self.owners, self.places = hashes[keep], owners[keep], places[keep]
        self.table[self.runs >> np.uint64(64 - _TABLE_BITS)] = True


class _Hits:
    """Telling runs seen in training rows, by row."""

    def __init__(self, runs: int, rare: int) -> None:
        self.rare = rare
        self.seen = np.zeros(runs, np.int64)
        self.found: list[tuple[str, Numbers, Numbers]] = []

    def scan(self, source: SourceRows, usable: Numbers, known: _Known) -> None:
        """Look through all tokens of a source, one shard after the other."""
        if not len(known.runs):
            return
        used = np.zeros(len(source), bool)
        used[usable] = True
        for number, shard in enumerate(source.shards):
            rows, runs = _matches(shard, known)
            rows = rows + source.starts[number]
            trained = used[rows] & (self.seen[runs] <= self.rare)
            pairs = np.unique(np.stack([rows[trained], runs[trained]]), axis=1)
            np.add.at(self.seen, pairs[1], 1)
            if pairs.size:
                self.found.append((source.label, pairs[0], pairs[1]))
            shard.forget()

    def judged(self, known: _Known) -> list[Leak]:
        """The rows that cover half of an eval row or of its prompt, by runs that are rare in training."""
        telling = self.seen <= self.rare
        in_prompt = telling & (known.places + RUN <= np.asarray(known.prompt_ends, np.int64)[known.owners])
        whole_sizes, prompt_sizes = (_own_sizes(known, mask) for mask in (telling, in_prompt))
        leaks_: dict[tuple[str, int], int] = {}
        for label, rows, runs in self.found:
            for mask, sizes in ((telling, whole_sizes), (in_prompt, prompt_sizes)):
                kept = mask[runs]
                for row, owner in _covering(rows[kept], known.owners[runs[kept]], known.places[runs[kept]], sizes):
                    leaks_[label, row] = min(owner, leaks_.get((label, row), owner))
        return [Leak(label, row, *known.names[owner]) for (label, row), owner in leaks_.items()]


def runs_of(ids: NDArray[np.int32]) -> NDArray[np.uint64]:
    """[len(ids) − 9] hash of the 10 tokens from each position on; empty for shorter rows."""
    if len(ids) < RUN:
        return np.empty(0, np.uint64)
    one = (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    two = one[:-1] * _power(1) + one[1:]
    four = two[:-2] * _power(2) + two[2:]
    eight = four[:-4] * _power(4) + four[4:]
    ten = eight[:-2] * _power(2) + two[8:]
    return ten ^ (ten >> np.uint64(29))


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(int(_BASE), exponent, 1 << 64))


def _ids(source: SourceRows, row: int) -> NDArray[np.int32]:
    shard = int(np.searchsorted(source.starts, row, side="right")) - 1
    ids, ends = source.shards[shard].ids
    at = row - int(source.starts[shard])
    return ids[ends[at] : ends[at + 1]]


def _matches(shard: Shard, known: _Known) -> tuple[Numbers, Numbers]:
    """Rows of a shard and the numbers of the telling runs they hold."""
    ids, ends = shard.ids
    runs = runs_of(ids)
    likely = np.flatnonzero(known.table[runs >> np.uint64(64 - _TABLE_BITS)])
    number = np.searchsorted(known.runs, runs[likely])
    number[number == len(known.runs)] = 0
    sure = known.runs[number] == runs[likely]
    at, number = likely[sure], number[sure]
    rows = np.searchsorted(ends, at, side="right") - 1
    inside = at + RUN <= ends[rows + 1]
    return rows[inside].astype(np.int64), number[inside].astype(np.int64)


def _own_sizes(known: _Known, mask: NDArray[np.bool_]) -> Numbers:
    """Tokens of each eval row that lie in its telling runs."""
    sizes = np.zeros(len(known.names), np.int64)
    owners, places = known.owners[mask], known.places[mask]
    for owner, size in _covered(owners, places):
        sizes[owner] = size
    return sizes


def _covering(rows: Numbers, owners: Numbers, places: Numbers, sizes: Numbers) -> list[tuple[int, int]]:
    """(row, eval row) where a training row covers at least half of the eval row."""
    names = rows * len(sizes) + owners
    return [
        divmod(name, len(sizes))
        for name, covered in _covered(names, places)
        if covered >= max(_HALF * sizes[name % len(sizes)], 2 * RUN)
    ]


def _covered(names: Numbers, places: Numbers) -> list[tuple[int, int]]:
    """For each name the number of tokens under its runs: their union, not their sum."""
    if not len(names):
        return []
    order = np.lexsort((places, names))
    names, places = names[order], places[order]
    last = np.concatenate([names[1:] != names[:-1], [True]])
    step = np.where(last, RUN, np.minimum(RUN, np.concatenate([places[1:], [0]]) - places))
    starts = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    return list(zip(names[starts].tolist(), np.add.reduceat(step, starts).tolist(), strict=True))
