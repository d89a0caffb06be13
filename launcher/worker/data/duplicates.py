"""Training rows that say again what an earlier row said: the same tokens, or almost the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from launcher.errors import DataError, EnvironmentFault
from launcher.worker.data.shards import SourceRows

Numbers = NDArray[np.int64]

NEAR_LIMIT = 500_000
"""Rows; each takes 3.5 KiB of memory and a millisecond (measured on rows of 120 tokens)."""
_SHINGLE = 5
_SIMILARITY = 0.8
_PERMUTATIONS = 128


@dataclass(frozen=True)
class Repeat:
    """A row, and the earlier row that it repeats."""

    label: str
    row: int
    of_label: str
    of_row: int


def exact(sources: Sequence[SourceRows], usable: Mapping[str, Numbers]) -> list[Repeat]:
    """Rows whose tokens equal those of an earlier row, in the order of the sources and of their rows."""
    where = _flat(sources, usable)
    keys = np.concatenate([source.keys[usable[source.label]] for source in sources])
    order = np.argsort(keys[:, 0], kind="stable")
    ranked = keys[order]
    same = np.concatenate([[False], (ranked[1:] == ranked[:-1]).all(axis=1)])
    first = order[np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))]
    found = sorted((int(again), int(of)) for again, of in zip(order[same], first[same], strict=True))
    return [where.repeat(again, of) for again, of in found]


def near(sources: Sequence[SourceRows], usable: Mapping[str, Numbers]) -> list[Repeat]:
    """Rows that share four fifths of their runs of 5 tokens with an earlier row (Jaccard, estimated by MinHash: Broder, 1997).

    Raises:
        DataError: more rows than fit in memory.
        EnvironmentFault: datasketch is not installed.
    """
    number = sum(map(len, usable.values()))
    if number > NEAR_LIMIT:
        raise DataError(
            f"`data.deduplicate: near` is for up to {NEAR_LIMIT:,} rows, these are {number:,}",
            hint="write `deduplicate: exact`, or bring the number down with `max_rows`",
        )
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        raise EnvironmentFault(
            "`data.deduplicate: near` needs the package datasketch", hint="pip install datasketch"
        ) from None
    where = _flat(sources, usable)
    index = MinHashLSH(threshold=_SIMILARITY, num_perm=_PERMUTATIONS)
    blank = MinHash(num_perm=_PERMUTATIONS, seed=1)
    found = []
    for position, shingles in enumerate(_shingles(sources, usable)):
        signature = blank.copy()
        signature.update_batch(shingles)
        earlier = index.query(signature)
        if earlier:
            found.append(where.repeat(position, min(earlier)))
        else:
            index.insert(position, signature)
    return found


def _shingles(sources: Sequence[SourceRows], usable: Mapping[str, Numbers]) -> Iterator[list[bytes]]:
    for source in sources:
        wanted = set(usable[source.label].tolist())
        for number, shard in enumerate(source.shards):
            ids, ends = shard.ids
            for row in range(len(ends) - 1):
                if int(source.starts[number]) + row in wanted:
                    raw = ids[ends[row] : ends[row + 1]]
                    last = max(1, len(raw) - _SHINGLE + 1)
                    yield [raw[at : at + _SHINGLE].tobytes() for at in range(last)]
            shard.forget()


@dataclass(frozen=True)
class _Flat:
    """Rows of all sources under one numbering."""

    labels: list[str]
    starts: Numbers
    rows: Numbers

    def repeat(self, again: int, of: int) -> Repeat:
        return Repeat(*self._at(again), *self._at(of))

    def _at(self, position: int) -> tuple[str, int]:
        source = int(np.searchsorted(self.starts, position, side="right")) - 1
        return self.labels[source], int(self.rows[position])


def _flat(sources: Sequence[SourceRows], usable: Mapping[str, Numbers]) -> _Flat:
    sizes = [len(usable[source.label]) for source in sources]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    return _Flat([source.label for source in sources], starts, np.concatenate([usable[s.label] for s in sources]))
