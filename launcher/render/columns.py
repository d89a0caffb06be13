"""A screen of titled sections that keeps to a width: prose is broken between words, commands and drawings are left whole."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from launcher.text import table

INDENT = 10
"""Columns of a section's title."""
PAGE = 100
"""Columns of a drawing where no width is given."""

_PROSE = 40
"""Columns that the last column of a table should have left before it goes below the others."""
_HANG = 4
_NUMBER, _KEPT = re.compile(r"(?<=\d) (?=[%A-Za-z])"), "\N{NO-BREAK SPACE}"
"""A number stays with its unit."""


def section(title: str, lines: Sequence[str]) -> list[str]:
    """Lines with the title before the first; a title longer than its column pushes that line aside."""
    first = title.ljust(INDENT) if len(title) < INDENT else f"{title}  "
    return [f"{first if number == 0 else ' ' * INDENT}{line}".rstrip() for number, line in enumerate(lines)]


def room(width: int | None, title: str = "") -> int:
    """Columns beside the titles; without a width those of a page."""
    return (width or PAGE) - max(INDENT, len(title) + 2 if len(title) >= INDENT else 0)


def wrapped(lines: Sequence[str], width: int | None, title: str = "") -> list[str]:
    """Lines broken between words where they are longer than what is left beside the title; None breaks nothing."""
    if width is None:
        return list(lines)
    return [part for line in lines for part in _broken(line, room(width, title), " " * _HANG)]


def described(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Rows as columns of which the last is prose: broken within its column, or below the others where that is too narrow."""
    lines = table(rows).splitlines()
    most = room(width)
    if width is None or all(len(line) <= most for line in lines):
        return lines
    before = table([row[:-1] for row in rows]).splitlines()
    column = max(len(line) for line in before) + 2
    if most - column >= _PROSE:
        joined = (f"{start.ljust(column)}{row[-1]}" for start, row in zip(before, rows, strict=True))
        return [part for line in joined for part in _broken(line, most, " " * column)]
    return [
        part
        for start, row in zip(before, rows, strict=True)
        for part in (start, *_broken(" " * _HANG + row[-1], most, " " * _HANG))
    ]


def _broken(line: str, width: int, hang: str) -> list[str]:
    if len(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    later = hang if len(hang) > len(indent) else indent
    parts = textwrap.wrap(
        _NUMBER.sub(_KEPT, line), width, subsequent_indent=later, break_long_words=False, break_on_hyphens=False,
        replace_whitespace=False,
    )  # fmt: skip
    return [part.replace(_KEPT, " ") for part in parts]
