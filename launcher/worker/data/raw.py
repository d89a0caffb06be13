"""Rows as they stand in a source, and the chunks they are read in."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from launcher.errors import DataError, EnvironmentFault
from launcher.plan.data_kinds import what_it_is

CHUNK_BYTES = 4 * 2**20
CHUNK_ROWS = 2000
LARGEST_VALUE_BYTES = 512 * 2**20
"""Longest line and largest JSON array, which are held in memory whole."""


class Raw(NamedTuple):
    """One row as it stands in the source, or the reason why it could not be read.

    `number` is its line, or its row where rows have no lines, from 1; `place` names the file too.
    """

    place: str
    number: int
    values: dict[str, Any]
    fault: str | None = None


class Chunk(Protocol):
    """Some rows of a source, read where it is sent to: picklable, with borders that depend on the source alone."""

    @property
    def file(self) -> str:
        """What stands before a row's number in its place: `train.jsonl:`, `train.parquet: row `."""

    @property
    def covers(self) -> int:
        """Bytes of the file that these rows are; 0 where rows do not stand in a known part of it."""

    def rows(self) -> Iterator[Raw]:
        """The rows in order."""

    def count(self) -> int:
        """How many rows there are."""

    def cut(self, most: int) -> Chunk:
        """The same chunk with its first `most` rows only."""


class Read(NamedTuple):
    """A row that was read already, without its file: number, values, fault, and its size in bytes or characters."""

    number: int
    values: dict[str, Any]
    fault: str | None
    size: int


@dataclass(frozen=True)
class Carried:
    """Rows that only a reader in order can find (CSV, arrays, the hub), carried in the chunk."""

    file: str
    read: tuple[Read, ...]
    covers = 0

    def rows(self) -> Iterator[Raw]:
        """See Chunk."""
        for number, values, fault, _ in self.read:
            yield Raw(f"{self.file}{number}", number, values, fault)

    def count(self) -> int:
        """See Chunk."""
        return len(self.read)

    def cut(self, most: int) -> Carried:
        """See Chunk."""
        return replace(self, read=self.read[:most])


def carried(file: str, rows: Iterable[Read]) -> Iterator[Carried]:
    """Chunks of at most 2,000 rows that end where they pass 4 MiB."""
    taken: list[Read] = []
    size = 0
    for row in rows:
        taken.append(row)
        size += row.size
        if len(taken) == CHUNK_ROWS or size >= CHUNK_BYTES:
            yield Carried(file, tuple(taken))
            taken, size = [], 0
    if taken:
        yield Carried(file, tuple(taken))


def first(chunks: Iterable[Chunk], most: int) -> Iterator[Chunk]:
    """The chunks that hold the first `most` rows, the last one cut to measure."""
    for chunk in chunks:
        rows = chunk.count()
        yield chunk if rows <= most else chunk.cut(most)
        most -= rows
        if most <= 0:
            return


def at_most(rows: Iterator[Raw], most: int | None) -> Iterator[Raw]:
    """The first rows, or all."""
    return rows if most is None else islice(rows, most)


def open_regular(file: Path) -> BufferedReader:
    """Open a file for reading; what would block or never end (a pipe, a device) is refused, not waited for.

    Raises:
        DataError: it is no regular file.
        EnvironmentFault: it is missing or cannot be read.
    """
    with reading(str(file)):
        _require_regular(file, file.stat().st_mode)
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        stream = os.fdopen(descriptor, "rb")
        _require_regular(file, os.fstat(descriptor).st_mode)
        return stream


def _require_regular(file: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise DataError(f"{file}: is {what_it_is(mode)}, not a file", hint="copy its rows to a file first")


@contextmanager
def reading(file: str) -> Iterator[None]:
    """Turn what the system or a decompressor says about a file into an error that names it.

    Raises:
        DataError: its contents cannot be unpacked, or it is a link to itself.
        EnvironmentFault: the machine cannot read it.
    """
    try:
        yield
    except FileNotFoundError:
        raise EnvironmentFault(f"{file}: no such data file") from None
    except OSError as fault:
        if fault.errno == errno.ELOOP:
            raise DataError(
                f"{file}: is, or lies behind, a link that leads back to itself", hint="name the file it was made for"
            ) from None
        if fault.errno is not None:
            raise EnvironmentFault(f"{file}: cannot be read: {(fault.strerror or '').lower()}") from None
        if "Truncated" in str(fault):
            raise DataError(f"{file}: the file looks cut: its compressed data does not end", hint=AGAIN) from None
        raise DataError(f"{file}: its compressed data is damaged: {fault}", hint=AGAIN) from None


AGAIN = "copy the file again from where it came"
