"""Chunks of whole lines (jsonl, txt): byte ranges of a file on this machine, or bytes that had to be unpacked or fetched."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.errors import EnvironmentFault
from launcher.worker.data.json_rows import SPACE, json_lines, not_utf8
from launcher.worker.data.raw import Raw, at_most, open_regular, reading

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class LineRange:
    """Whole lines of a local file: bytes `start` to `stop` of `size`, the first line being `number`."""

    file: str
    path: str
    suffix: str
    start: int
    stop: int
    size: int
    number: int
    most: int | None = None

    def rows(self) -> Iterator[Raw]:
        """See Chunk."""
        return at_most(_rows(self.file, self._bytes(), self.number, self.suffix), self.most)

    @property
    def covers(self) -> int:
        """See Chunk."""
        return self.stop - self.start

    def count(self) -> int:
        """See Chunk."""
        return _count(self._bytes(), self.number)

    def cut(self, most: int) -> LineRange:
        """See Chunk."""
        return replace(self, most=most)

    def _bytes(self) -> bytes:
        with open_regular(Path(self.path)) as stream, reading(self.path):
            stream.seek(self.start)
            data = stream.read(self.stop - self.start)
            require_same_size(self.path, self.size, os.fstat(stream.fileno()).st_size)
        return data


@dataclass(frozen=True)
class LineBlock:
    """Whole lines that had to be unpacked or fetched, carried in the chunk."""

    file: str
    data: bytes
    suffix: str
    number: int
    most: int | None = None
    covers = 0

    def rows(self) -> Iterator[Raw]:
        """See Chunk."""
        return at_most(_rows(self.file, self.data, self.number, self.suffix), self.most)

    def count(self) -> int:
        """See Chunk."""
        return _count(self.data, self.number)

    def cut(self, most: int) -> LineBlock:
        """See Chunk."""
        return replace(self, most=most)


def require_same_size(name: str, before: int, now: int) -> None:
    """Refuse a file that something writes to while its rows are read.

    Raises:
        EnvironmentFault: its size in bytes is not what it was.
    """
    if now != before:
        raise EnvironmentFault(
            f"{name}: had {before:,} bytes, and {now:,} while it was read", hint="start again when nothing writes to it"
        )


def _rows(file: str, data: bytes, number: int, suffix: str) -> Iterator[Raw]:
    lines, ended = _lines(_without_mark(data, number)), data.endswith(b"\n")
    if suffix == ".txt":
        return _text_rows(file, lines, number)
    return json_lines(file, lines, number, ended=ended)


def _text_rows(file: str, lines: list[str | bytes], number: int) -> Iterator[Raw]:
    for at, line in enumerate(lines, number):
        if isinstance(line, bytes):
            yield Raw(f"{file}{at}", at, {}, not_utf8(line))
        elif "\0" in line:
            yield Raw(f"{file}{at}", at, {}, f"holds a NUL byte at character {line.index(chr(0)) + 1}")
        elif line.strip(SPACE):
            yield Raw(f"{file}{at}", at, {"text": line.removesuffix("\r")})


def _lines(data: bytes) -> list[str | bytes]:
    try:
        return list(data.decode().split("\n"))
    except UnicodeDecodeError:
        return [_decoded(line) for line in data.split(b"\n")]


def _decoded(line: bytes) -> str | bytes:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line


def _without_mark(data: bytes, number: int) -> bytes:
    return data.removeprefix(_BOM) if number == 1 else data


def _count(data: bytes, number: int) -> int:
    return sum(not line.isspace() for line in io.BytesIO(_without_mark(data, number)))
