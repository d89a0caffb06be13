"""Memory by term as bars of text: each begins where the one above ends, so that together they reach towards the device's line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launcher.predict.prediction import Moment, Prediction
from launcher.text import gib

NAMES = {
    "weights": "weights",
    "quantization": "4-bit constants",
    "gradients": "gradients",
    "optimizer": "optimizer state",
    "activations": "activations",
    "loss": "loss head",
    "gather": "gathered shards",
    "workspace": "workspace",
    "context": "CUDA context",
    "fragmentation": "fragmentation",
}
"""Terms of `launcher.predict.prediction.TERMS` as people read them."""
MOMENTS: dict[Moment, str] = {
    "forward": "the forward pass",
    "loss": "the loss",
    "backward": "the backward pass",
    "step": "the optimizer's step",
    "load": "loading",
}

_SHOWN = 6
"""Terms with a line of their own; the smallest share one."""
_NAME, _FIGURE = 15, 9
_WIDEST, _NARROWEST = 60, 16
"""Cells of the drawing."""
_BEYOND = 4
"""How far past the device's line a bar is drawn, as a multiple of the line's place."""
_SMALL = 0.05
"""Below this share of the device bars are drawn over the peak, without the device's line."""


@dataclass(frozen=True)
class Bar:
    """One term: from where to where it reaches, in cells."""

    name: str
    size: int
    start: float
    end: float


def bars(prediction: Prediction, *, device: str, width: int) -> list[str]:
    """One line for each term, the largest first, and one for what is spare; in `width` columns.

    Args:
        prediction: memory by term, and what the device has free.
        device: `cuda` or `cpu`.
        width: columns of a line.
    """
    total, capacity = prediction.memory.total, prediction.capacity
    label = f"{gib(capacity)} free"
    cells = max(_NARROWEST, min(_WIDEST, width - _NAME - _FIGURE - len(label) - 5))
    if total <= 0:
        return []
    alone = total < _SMALL * capacity
    most = total if alone else max(min(total, _BEYOND * capacity), capacity)
    line = None if alone else round(capacity / most * cells)
    drawn = [_line(bar, line, cells) for bar in _placed(_terms(prediction.memory.terms, device), cells / most)]
    if line is not None:
        drawn[0] = f"{drawn[0].rstrip()} {label}"
        if prediction.margin > 0:
            spare = Bar("spare", prediction.margin, total / most * cells, float(line))
            drawn.append(_line(spare, line, cells, full="·"))
        elif prediction.margin < 0:
            drawn.append(_line(Bar("missing", -prediction.margin, float(line), float(cells)), line, cells))
    return [each.rstrip() for each in drawn]


def name(term: str, device: str) -> str:
    """A term as people read it."""
    return "process" if term == "context" and device == "cpu" else NAMES.get(term, term)


def _terms(terms: Mapping[str, int], device: str) -> list[tuple[str, int]]:
    """The largest terms, and all others as one."""
    found = sorted(((name(term, device), size) for term, size in terms.items() if size > 0), key=lambda pair: -pair[1])
    if len(found) <= _SHOWN:
        return found
    rest = found[_SHOWN - 1 :]
    return [*found[: _SHOWN - 1], (f"{len(rest)} smaller", sum(size for _, size in rest))]


def _placed(terms: list[tuple[str, int]], scale: float) -> Iterator[Bar]:
    start = 0.0
    for label, size in terms:
        yield Bar(label, size, start, start + size * scale)
        start += size * scale


def _line(bar: Bar, line: int | None, cells: int, full: str = "█") -> str:
    """`weights   5.7 GiB      ████▌        │`; what lies beyond the device's line is drawn lighter."""
    first = min(int(bar.start), cells - 1)
    eighths = max(1, round(min(bar.end, cells) * 8) - 8 * first)
    body = full * (eighths // 8)
    if full == "█" and eighths % 8:
        body += " ▏▎▍▌▋▊▉"[eighths % 8]
    drawing = list((" " * first + body).ljust(cells + 1))
    if line is not None:
        beyond = [i for i in range(line, len(drawing)) if drawing[i] != " "]
        for i in beyond:
            drawing[i] = "▒"
        if not beyond or beyond[0] > line:
            drawing[line] = "│"
    return f"{bar.name.ljust(_NAME)} {gib(bar.size).rjust(_FIGURE)}  {''.join(drawing)}"
