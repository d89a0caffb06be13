"""Stacked bars as inline SVG: what a whole is made of, one bar below the other, against a line that they should not reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from launcher.render.bars import shortened, svg

_ROW, _TOP, _BAR, _LETTER = 52, 22, 18, 7.5
"""Height of a row, where its bar begins and how high that is, and the width of a letter, in CSS pixels."""
_FOOT = 22
"""Room for the line's label below the bars."""
_GAP = 1.0


@dataclass(frozen=True)
class Part:
    """One piece of a bar: its name, its size, its size in words, its colour."""

    name: str
    size: float
    words: str
    colour: int


@dataclass(frozen=True)
class Stack:
    """One bar: what stands above it at the left and at the right, and its pieces in order."""

    name: str
    figures: str
    parts: Sequence[Part]


def stacks(
    rows: Sequence[Stack], *, label: str, width: int, limit: float | None = None, limit_words: str = ""
) -> Markup:
    """Bars over one scale from zero, with a line at `limit`.

    Args:
        rows: the bars, from the top.
        label: what the drawing shows, for those who hear it.
        width: of the drawing, in CSS pixels.
        limit: where the line is, in the unit of the sizes.
        limit_words: what the line is.
    """
    most = max([*(sum(part.size for part in row.parts) for row in rows), limit or 0.0], default=0.0)
    if not rows or most <= 0:
        return Markup()
    scale, height = (width - 2) / (most * 1.01), _ROW * len(rows)
    drawn = [piece for number, row in enumerate(rows) for piece in _row(row, number * _ROW, width, scale)]
    if limit is not None:
        drawn += _limit(limit * scale, limit_words, len(rows), width)
    said = escape(f"{label}: " + "; ".join(f"{row.name}, {row.figures}" for row in rows))
    return svg(width, height + (_FOOT if limit is not None else 0), said, drawn)


def _row(row: Stack, top: int, width: int, scale: float) -> Iterator[str]:
    bar, place = top + _TOP, 0.0
    name = shortened(row.name, int((width - _LETTER * (len(row.figures) + 2)) / _LETTER))
    yield f'<text class="name" x="0" y="{top + 14}">{escape(name)}<title>{escape(row.name)}</title></text>'
    yield f'<text x="{width}" y="{top + 14}" text-anchor="end">{escape(row.figures)}</text>'
    for part in row.parts:
        wide = part.size * scale
        if wide > 0:
            shown = max(wide - _GAP, 0.5)
            yield (
                f'<rect class="bar c{part.colour}" x="{place:.1f}" y="{bar}" width="{shown:.1f}" height="{_BAR}">'
                f"<title>{escape(part.name)}: {escape(part.words)}</title></rect>"
            )
        if part.name != row.name and wide > _LETTER * (len(part.name) + 1):
            yield f'<text class="within" x="{place + 5:.1f}" y="{bar + 13}">{escape(part.name)}</text>'
        place += wide


def _limit(at: float, words: str, rows: int, width: int) -> Iterator[str]:
    inside = at + 6 + _LETTER * len(words) < width
    anchor, x = ("start", at + 6) if inside else ("end", at - 6)
    for number in range(rows):
        top = number * _ROW + _TOP - 4
        yield f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{top + _BAR + 8}"/>'
    yield f'<text class="limit" x="{x:.1f}" y="{rows * _ROW + _FOOT - 12}" text-anchor="{anchor}">{escape(words)}</text>'
