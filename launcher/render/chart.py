"""Line charts as inline SVG: axes with round numbers, a legend, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from markupsafe import Markup, escape

Point = tuple[float, float]
_MOST_POINTS = 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 14, 12, 40


@dataclass(frozen=True)
class Line:
    """One curve. `colour` is a number of the page's palette; `faint` lines are the raw values behind a smoothed one."""

    name: str
    points: Sequence[Point]
    colour: int
    style: Literal["solid", "faint", "marked"] = "solid"


@dataclass(frozen=True)
class Axes:
    """What the axes say, and where they begin and end."""

    x: str
    y: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]


def chart(lines: Sequence[Line], *, x: str, y: str, width: int, height: int, from_zero: bool = False) -> Markup:
    """An SVG of all lines over common axes; empty when there is nothing to draw.

    Args:
        lines: points in the order of x; points that are not finite are left out.
        x: label of the x axis.
        y: label of the y axis, with its unit.
        width: of the drawing, in CSS pixels.
        height: of the drawing, in CSS pixels.
        from_zero: begin the y axis at zero.
    """
    kept = [Line(line.name, _finite(line.points), line.colour, line.style) for line in lines]
    kept = [line for line in kept if line.points]
    if not kept:
        return Markup()
    axes = _axes(kept, x, y, from_zero=from_zero)
    place = Place(axes, width, height)
    parts = [*grid(axes, place), *(part for line in kept for part in _draw(line, place))]
    label = escape(f"{y} over {x}: " + ", ".join(line.name for line in kept if line.style != "faint"))
    # The text of every part is escaped where it is made.
    return Markup(  # noqa: S704
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def smoothed(points: Sequence[Point], span: int) -> list[Point]:
    """Mean of `span` points around each one; towards both ends of as many as lie evenly around it, so nothing lags."""
    kept = _finite(points)
    sums = [0.0, *accumulate(y for _, y in kept)]
    made = []
    for i, (x, _) in enumerate(kept):
        reach = min(i, len(kept) - 1 - i, span // 2)
        made.append((x, (sums[i + reach + 1] - sums[i - reach]) / (2 * reach + 1)))
    return made


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within [low, high], at most `most` of them."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    gap = next(gap for gap in (power, 2 * power, 5 * power, 10 * power) if gap >= rough * (1 - 1e-9))
    first = math.ceil(low / gap - 1e-9)
    last = math.floor(high / gap + 1e-9)
    return [step * gap for step in range(first, last + 1)]


def thinned(points: Sequence[Point], most: int = _MOST_POINTS) -> list[Point]:
    """At most `most` points: of each stretch its lowest and its highest, so that no spike is lost."""
    if len(points) <= most:
        return list(points)
    stretches = most // 2
    made: list[Point] = []
    for stretch in range(stretches):
        part = points[len(points) * stretch // stretches : len(points) * (stretch + 1) // stretches]
        made += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return made


class Place:
    """Where a value lies in the drawing."""

    def __init__(self, axes: Axes, width: int, height: int) -> None:
        self.axes = axes
        self.left, self.right, self.top, self.bottom = _LEFT, width - _RIGHT, _TOP, height - _BOTTOM

    def x(self, value: float) -> float:
        """Pixels from the left."""
        low, high = self.axes.x_range
        return round(self.left + (value - low) / (high - low) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """Pixels from the top; a value outside of the axis lies on its end."""
        low, high = self.axes.y_range
        inside = min(max(value, low), high)
        return round(self.bottom - (inside - low) / (high - low) * (self.bottom - self.top), 1)


def _finite(points: Iterable[Point]) -> list[Point]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _axes(lines: Sequence[Line], x: str, y: str, *, from_zero: bool) -> Axes:
    xs = [point[0] for line in lines for point in line.points]
    ys = [value for line in lines for value in _extent(line)]
    low, high = (0.0 if from_zero else min(ys)), max(ys)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return Axes(x, y, (min(0.0, *xs), max(1.0, *xs)), (low if from_zero else low - margin, high + margin))


def _extent(line: Line) -> tuple[float, float]:
    """Lowest and highest value to show; of raw values, without the outermost hundredths, which would flatten the rest."""
    ys = sorted(y for _, y in line.points)
    cut = len(ys) // 50 if line.style == "faint" else 0
    return ys[cut], ys[-1 - cut]


def grid(axes: Axes, place: Place) -> Iterator[str]:
    """Both axes with round numbers and their labels, and lines across for y."""
    across = 10 if place.right > 600 else 5
    for value in ticks(*axes.y_range, most=5):
        at = place.y(value)
        yield f'<line class="grid" x1="{place.left}" x2="{place.right}" y1="{at}" y2="{at}"/>'
        yield f'<text x="{place.left - 8}" y="{at + 4}" text-anchor="end">{number(value)}</text>'
    for value in ticks(*axes.x_range, most=across):
        at = place.x(value)
        yield f'<line class="axis" x1="{at}" x2="{at}" y1="{place.bottom}" y2="{place.bottom + 4}"/>'
        yield f'<text x="{at}" y="{place.bottom + 18}" text-anchor="middle">{number(value)}</text>'
    yield f'<line class="axis" x1="{place.left}" x2="{place.right}" y1="{place.bottom}" y2="{place.bottom}"/>'
    middle = (place.left + place.right) / 2
    yield f'<text class="label" x="{middle}" y="{place.bottom + 34}" text-anchor="middle">{escape(axes.x)}</text>'
    height = (place.top + place.bottom) / 2
    yield (
        f'<text class="label" x="12" y="{height}" text-anchor="middle" transform="rotate(-90 12 {height})">'
        f"{escape(axes.y)}</text>"
    )


def _draw(line: Line, place: Place) -> Iterator[str]:
    points = thinned(line.points) if line.style != "marked" else line.points
    path = " ".join(f"{place.x(x)},{place.y(y)}" for x, y in points)
    kind = "faint" if line.style == "faint" else "line"
    yield f'<polyline class="{kind} c{line.colour}" points="{path}"/>'
    if line.style == "marked":
        for x, y in points:
            title = f"{escape(line.name)}: {number(y)} at step {number(x)}"
            yield (
                f'<circle class="dot c{line.colour}" cx="{place.x(x)}" cy="{place.y(y)}" r="4">'
                f"<title>{title}</title></circle>"
            )


def number(value: float) -> str:
    """A number at an axis."""
    if 0 < abs(value) < 1e-3:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
