"""Tables as text: a row for each record under the header, and reading goes on after one that is wrong."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator

from launcher.errors import DataError
from launcher.plan.data_kinds import header_fault
from launcher.worker.data.json_rows import not_utf8
from launcher.worker.data.raw import Read

_LARGEST_CELL = 64 * 2**20


class _Lines:
    """Lines as text for the csv module; those of the record at hand can be taken back."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._back: deque[bytes] = deque()
        self.number = 0
        self.record: list[bytes] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else next(self._lines)
        self.number += 1
        if self.number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        self.record.append(line)
        return line.decode(errors="replace")

    def back_to_second(self) -> None:
        """Read the record's lines but the first again: an open quote took them in."""
        self._back.extendleft(reversed(self.record[1:]))
        self.number -= len(self.record) - 1

    def fault(self) -> tuple[int, str] | None:
        """Line and reason of the record's first line that is no text."""
        first = self.number - len(self.record) + 1
        for number, line in enumerate(self.record, first):
            if b"\0" in line:
                return number, f"holds a NUL byte (byte {line.index(0) + 1})"
            if not line.isascii() and "\ufffd" in line.decode(errors="replace"):
                try:
                    line.decode()
                except UnicodeDecodeError:
                    return number, not_utf8(line)
        return None


def csv_rows(lines: Iterable[bytes], name: str, delimiter: str) -> Iterator[Read]:
    """Rows of a table, numbered by the line they start in.

    Raises:
        DataError: the first line is no header.
    """
    csv.field_size_limit(_LARGEST_CELL)
    text = _Lines(lines)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    names = _header(reader, text, name, delimiter)
    while names:
        text.record = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as fault:
            first = text.number - len(text.record) + 1
            text.back_to_second()
            yield Read(first, {}, _quotes(str(fault)), len(text.record[0]))
            continue
        if cells:
            yield _read(text, names, cells)


def _read(text: _Lines, names: list[str], cells: list[str]) -> Read:
    size = sum(map(len, text.record))
    if found := text.fault():
        return Read(found[0], {}, found[1], size)
    first = text.number - len(text.record) + 1
    more = len(cells) - len(names)
    if more > 0:
        return Read(first, {}, f"has {more} {'cell' if more == 1 else 'cells'} more than the header", size)
    if more < 0:
        return Read(first, {}, f"has no cell for column `{names[len(cells)]}`", size)
    return Read(first, dict(zip(names, cells, strict=True)), None, size)


def _quotes(message: str) -> str:
    if message.startswith("field larger"):
        return f"has a cell of more than {_LARGEST_CELL // 2**20} MiB: a quote that is opened here is not closed"
    if message.startswith("unexpected end"):
        return "a quote that is opened here is not closed"
    if "expected after" in message:
        return 'has a quote inside a quoted cell; it is written twice there (`""`)'
    return f"cannot be read as CSV: {message}"


def _header(reader: Iterator[list[str]], text: _Lines, name: str, delimiter: str) -> list[str]:
    try:
        names = next((cells for cells in reader if cells), [])
    except csv.Error as fault:
        raise DataError(f"{name}:1: the header {_quotes(str(fault))}") from None
    if bad := text.fault():
        raise DataError(f"{name}:{bad[0]}: {bad[1]}")
    if wrong := header_fault(names, delimiter):
        raise DataError(f"{name}:1: {wrong[0]}", hint=wrong[1])
    return names
