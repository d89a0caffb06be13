"""Bars as inline SVG: how many rows are how long, and what share of the whole each source has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from launcher.render.chart import Axes, Place, grid

_ROW, _BAR, _LETTER = 46, 12, 7.5
"""Heights of a row and of its bar, and the width of a letter, in CSS pixels."""
_FIGURES = 190
"""Room for the figures at the right end of a row, in CSS pixels."""

Bin = tuple[float, float, int]


@dataclass(frozen=True)
class Share:
    """One bar of at most 1, a mark at what was asked for, and what stands above it."""

    name: str
    got: float
    asked: float | None
    figures: str
    colour: int


def histogram(bins: Sequence[Bin], *, x: str, y: str, limit: int | None, width: int, height: int) -> Markup:
    """Bars between their borders; those beyond `limit` in another colour, and a line where it is.

    Args:
        bins: left, right and number, in order and without gaps.
        x: label of the x axis.
        y: label of the y axis.
        limit: where rows are cut; None for nowhere.
        width: of the drawing, in CSS pixels.
        height: of the drawing, in CSS pixels.
    """
    if not any(many for _, _, many in bins):
        return Markup()
    axes = Axes(x, y, (0.0, max(bins[-1][1], 1.0)), (0.0, 1.08 * max(many for _, _, many in bins)))
    place = Place(axes, width, height)
    parts = [*grid(axes, place), *_columns(bins, place, limit), *_limit(limit, place)]
    label = escape(f"{y} over {x}, from {bins[0][0]:,.0f} to {bins[-1][1]:,.0f}")
    return svg(width, height, label, parts)


def shares(rows: Sequence[Share], *, label: str, width: int) -> Markup:
    """One bar below the other, each over the same whole."""
    if not rows:
        return Markup()
    parts = [part for number, row in enumerate(rows) for part in _share(row, number * _ROW, width)]
    return svg(width, _ROW * len(rows), escape(label), parts)


def _columns(bins: Sequence[Bin], place: Place, limit: int | None) -> Iterator[str]:
    for left, right, many in bins:
        if many:
            start, end, top = place.x(left), place.x(right), min(place.y(many), place.bottom - 1)
            beyond = limit is not None and left >= limit
            wide = max(0.5, end - start - (1 if end - start > 3 else 0))
            title = f"{left:,.0f} to {right:,.0f} tokens: {many:,} rows"
            yield (
                f'<rect class="bar c{1 if beyond else 0}" x="{start}" y="{top}" width="{wide:.1f}" '
                f'height="{place.bottom - top:.1f}"><title>{title}</title></rect>'
            )


def _limit(limit: int | None, place: Place) -> Iterator[str]:
    low, high = place.axes.x_range
    if limit is None or not low < limit <= high:
        return
    at = place.x(limit)
    words = f"max_length {limit:,}"
    inside = at + 6 + _LETTER * len(words) < place.right
    yield f'<line class="limit" x1="{at}" x2="{at}" y1="{place.top}" y2="{place.bottom}"/>'
    yield (
        f'<text class="limit" x="{at + 6 if inside else at - 6}" y="{place.top + 10}" '
        f'text-anchor="{"start" if inside else "end"}">{words}</text>'
    )


def _share(row: Share, top: int, width: int) -> Iterator[str]:
    name = shortened(row.name, int((width - _FIGURES) / _LETTER))
    bar = top + 22
    yield f'<text class="name" x="0" y="{top + 14}">{escape(name)}<title>{escape(row.name)}</title></text>'
    yield f'<text x="{width}" y="{top + 14}" text-anchor="end">{escape(row.figures)}</text>'
    yield f'<rect class="track" x="0" y="{bar}" width="{width}" height="{_BAR}" rx="3"/>'
    filled = round(min(max(row.got, 0.0), 1.0) * width, 1)
    yield f'<rect class="bar c{row.colour}" x="0" y="{bar}" width="{max(filled, 1.0)}" height="{_BAR}" rx="3"/>'
    if row.asked is not None:
        at = round(min(max(row.asked, 0.0), 1.0) * (width - 2) + 1, 1)
        yield f'<line class="mark" x1="{at}" x2="{at}" y1="{bar - 3}" y2="{bar + _BAR + 3}"/>'


def shortened(words: str, letters: int) -> str:
    """The beginning of a text that is longer than there is room for."""
    return words if len(words) <= letters else words[: max(letters, 1) - 1] + "…"


def svg(width: int, height: int, label: str, parts: Sequence[str]) -> Markup:
    """A drawing of parts whose text is escaped; `label` is escaped, too."""
    # The text of every part is escaped where it is made.
    return Markup(  # noqa: S704
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )
