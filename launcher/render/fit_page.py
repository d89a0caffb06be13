"""A prediction as drawings and tables: memory by term against the device, other ways to run it beside it, time by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from launcher.plan.types import Plan
from launcher.predict.prediction import TERMS, Change, Prediction, Time
from launcher.render import fit_text, memory_text
from launcher.render.data_page import Plot
from launcher.render.stacks import Part, Stack, stacks
from launcher.text import count, duration, gib

KINDS = {"fits": "good", "tight": "open", "does not fit": "bad"}
"""Verdict → the kind that chooses its colour."""

COLOURS = 10
"""Of the pages' style sheet."""

_WIDE, _NARROW = 1000, 340
_WHOLE = 9
"""Colour of a bar that is not taken apart."""
_LIMIT = "free on the device"

_Words = Callable[[float], str]
Row = tuple[int, str, str, str]
"""Colour, name, size, share of the whole."""


@dataclass(frozen=True)
class Other:
    """Another way to run the recipe: the line to type, its figures, what it gives and costs."""

    line: str
    memory: str
    step: str
    verdict: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Fit:
    """All that a page shows of a prediction."""

    figures: list[tuple[str, str]]
    memory: Plot
    terms: list[Row]
    moments: Plot | None
    compared: Plot | None
    fixes: list[Other]
    others: list[Other]
    time: Plot | None
    parts: list[Row]
    said: list[str]
    """How long it takes, in sentences."""
    rest: list[tuple[str, list[tuple[str, str]]]]
    """Host memory and disk: a title, and terms with their sizes."""


def fit(plan: Plan, found: Prediction, line: str | None) -> Fit:
    """The prediction of a plan.

    Args:
        plan: what was decided.
        found: its prediction.
        line: the `launcher plan` line as it would be typed; None where it is not known.
    """
    terms = [(memory_text.name(term, plan.device), float(size)) for term, size in _ordered(found.memory.terms)]
    parts = list(found.time.parts.items()) if found.time else []
    return Fit(
        figures=list(_figures(plan, found)),
        memory=_against(found, [_stack("this plan", terms, gib, f"{gib(found.memory.total)}, {found.verdict}")]),
        terms=_rows(terms, gib),
        moments=_moments(found),
        compared=_compared(found, terms),
        fixes=[_other(each, line) for each in found.fixes],
        others=[_other(each, line) for each in found.alternatives],
        time=_step(found.time) if found.time else None,
        parts=_rows(parts, fit_text.seconds),
        said=fit_text.time(plan, found),
        rest=[
            (title, [(name, gib(size)) for name, size in sorted(amounts.items(), key=lambda pair: -pair[1])])
            for title, amounts in (("Host memory of a node", found.host), ("Disk", found.disk))
            if amounts
        ],
    )


def _ordered(terms: Mapping[str, int]) -> list[tuple[str, int]]:
    """Terms in their order, so that colours mean the same on every page; then those that are not known here."""
    names = [*TERMS, *(term for term in terms if term not in TERMS)]
    return [(term, terms[term]) for term in names if terms.get(term, 0) > 0]


def _figures(plan: Plan, found: Prediction) -> Iterator[tuple[str, str]]:
    yield f"peak{fit_text.per_device(plan)}", gib(found.memory.total)
    yield ("spare" if found.margin >= 0 else "missing"), gib(abs(found.margin))
    if found.time:
        yield "a step", fit_text.seconds(found.time.step_s)
        yield "tokens a second", count(found.time.tokens_per_s)
    if found.run_s is not None:
        yield "all steps", duration(found.run_s)
    if found.gpu_hours is not None:
        yield "GPU-hours", fit_text.short(found.gpu_hours)
    if found.energy_kwh is not None:
        yield "energy", f"{fit_text.short(found.energy_kwh)} kWh"
    if found.cost is not None:
        yield "cost", found.cost


def _stack(name: str, pieces: Sequence[tuple[str, float]], words: _Words, figures: str) -> Stack:
    parts = [Part(title, size, words(size), number % COLOURS) for number, (title, size) in enumerate(pieces)]
    return Stack(name, figures, parts)


def _rows(pieces: Sequence[tuple[str, float]], words: _Words) -> list[Row]:
    """The largest first, each with the colour that it has in the drawing."""
    whole = sum(size for _, size in pieces) or 1.0
    rows = [(number % COLOURS, name, size) for number, (name, size) in enumerate(pieces)]
    return [
        (number, name, words(size), f"{100 * size / whole:.0f} %")
        for number, name, size in sorted(rows, key=lambda row: -row[2])
    ]


def _against(found: Prediction, rows: Sequence[Stack], note: str = "") -> Plot:
    """Bars against what is free on the device."""
    wide, narrow = (
        stacks(
            rows,
            label="Memory against what is free on the device",
            width=width,
            limit=float(found.capacity),
            limit_words=f"{gib(found.capacity)} {_LIMIT}",
        )
        for width in (_WIDE, _NARROW)
    )
    return Plot("Memory", wide, narrow, note)


def _moments(found: Prediction) -> Plot | None:
    """What torch's allocator has given out at each moment of a step."""
    known = [
        (memory_text.MOMENTS[name], size) for name, size in found.memory.moments.items() if name in memory_text.MOMENTS
    ]
    if not known:
        return None
    rows = [Stack(name, gib(size), [Part(name, float(size), gib(size), 0)]) for name, size in known]
    return _against(found, rows, "Without the context of the device and what lies unused between blocks.")


def _compared(found: Prediction, terms: Sequence[tuple[str, float]]) -> Plot | None:
    """This plan, what would make it fit, and what else was looked at, over one scale."""
    others = [*found.fixes, *found.alternatives]
    if not others:
        return None
    first = _stack("this plan", terms, gib, f"{gib(found.memory.total)}, {found.verdict}")
    rows = [
        Stack(
            " ".join(each.sets),
            f"{gib(each.memory)}, {each.verdict}",
            [Part(each.reason, float(each.memory), gib(each.memory), _WHOLE)],
        )
        for each in others
    ]
    return _against(found, [first, *rows])


def _other(change: Change, line: str | None) -> Other:
    step = "-" if change.step_s is None else fit_text.seconds(change.step_s)
    return Other(
        fit_text.typed(change, line), gib(change.memory), step, change.verdict, KINDS[change.verdict], change.reason
    )


def _step(time: Time) -> Plot:
    row = _stack("an optimizer step", list(time.parts.items()), fit_text.seconds, fit_text.seconds(time.step_s))
    wide, narrow = (stacks([row], label="Time of a step by part", width=width) for width in (_WIDE, _NARROW))
    return Plot("Time", wide, narrow)
