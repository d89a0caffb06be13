"""Which tokenised rows can be trained, and what stops a run: bad rows, answers cut off, nothing left."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from launcher.errors import DataError
from launcher.plan.types import DataPlan, SourcePlan
from launcher.worker.data.shards import Bad, SourceRows

Numbers = NDArray[np.int64]

_SHOWN = 20
_RUNNING_TEXT = ("text", "tokenized")


@dataclass(frozen=True)
class Usable:
    """The rows of one source that can be trained, and those that cannot."""

    source: SourceRows
    rows: Numbers
    bad: list[Bad]
    counts: dict[str, int]
    """too_short, too_long (left out by the recipe's filter); cut, lost_end (shortened to max_length; losing an answer's end), cut_tokens."""
    needs: int | None = field(default=None)
    """The `max_length` that would cut none of the rows that cannot be trained."""


def usable(source: SourceRows, plan: SourcePlan, data: DataPlan) -> Usable:
    """Filter by length, and find the rows of which `max_length` leaves nothing to learn."""
    lengths, first = source.lengths, source.first
    keep = np.ones(len(source), bool)
    too_short = lengths < (plan.min_tokens or 0)
    too_long = lengths > plan.max_tokens if plan.max_tokens else ~keep
    keep &= ~(too_short | too_long)
    splits = data.packing and data.packing_strategy != "bfd" and plan.held_out_from is None
    splits = splits and any(each.label == plan.label for each in data.sources)
    nothing_left = keep & (first >= data.max_length) & (not splits)
    keep &= ~nothing_left
    cut = keep & (lengths > data.max_length) & (not splits)
    counts = {
        "too_short": int(too_short.sum()),
        "too_long": int(too_long.sum()),
        "cut": int(cut.sum()),
        "lost_end": 0 if source.facts.get("format") in _RUNNING_TEXT else int(cut.sum()),
        "cut_tokens": int((lengths[cut].astype(np.int64) - data.max_length).sum()),
    }
    empty = np.flatnonzero(nothing_left)
    beyond = [Bad(source.label, source.place(int(row)), _answer_cut(source, int(row), data)) for row in empty]
    needs = int(lengths[empty].max()) if len(empty) else None
    return Usable(source, np.flatnonzero(keep), [*source.bad(), *beyond], counts, needs)


def _answer_cut(source: SourceRows, row: int, data: DataPlan) -> str:
    start, length = int(source.first[row]) + 1, int(source.lengths[row])
    return f"has no trained token within max_length {data.max_length}: the answer begins at token {start} of {length}"


def check(found: Sequence[Usable], data: DataPlan, report: Path) -> None:
    """Write the bad rows of all sources to `report` (JSON lines) and stop where the recipe says so.

    Raises:
        DataError: `on_bad_row: stop` and a row is bad; more of a source is bad, or cut short, than the recipe accepts; or nothing is left of it.
    """
    bad = [each for source in found for each in source.bad]
    if bad:
        lines = (json.dumps(vars(each), ensure_ascii=False) + "\n" for each in bad)
        report.write_text("".join(lines), encoding="utf-8")
    if bad and data.on_bad_row == "stop":
        needs = max((source.needs or 0 for source in found), default=0)
        longer = f", or set `data.max_length: {needs}` or more" if needs else ""
        whole = "copy the file again from where it came" if all("file looks cut" in each.reason for each in bad) else ""
        raise DataError(
            _listed(bad, report), hint=f"{whole or 'correct the rows'}{longer}, or write `data.on_bad_row: drop`"
        )
    for source in found:
        _check_source(source, data, report)


def _check_source(found: Usable, data: DataPlan, report: Path) -> None:
    label, total = found.source.label, found.source.number_read
    if len(found.bad) > data.max_bad_fraction * total:
        raise DataError(
            f"{_listed(found.bad, report)}\n       {len(found.bad) / total:.1%} of source `{label}` are bad, `max_bad_fraction` is {data.max_bad_fraction:.1%}",
            hint="correct the rows; raise `data.max_bad_fraction` only if losing them is meant",
        )
    if not len(found.rows):
        filtered = found.counts["too_short"] + found.counts["too_long"]
        raise DataError(
            f"{_listed(found.bad, report)}\n       no row of source `{label}` is left"
            if found.bad
            else f"no row of source `{label}` is left: {filtered} are outside `min_tokens` and `max_tokens`",
            hint="correct the rows" if found.bad else "widen the range, or remove it",
        )
    lost = found.counts["lost_end"]
    if lost > data.max_cut_fraction * len(found.rows):
        long = found.source.lengths[found.rows]
        worst = int(found.rows[int(np.argmax(long))])
        raise DataError(
            f"{found.source.place(worst)}: max_length {data.max_length} cuts off the end of the answer in {lost} of {len(found.rows)} rows of source `{label}` ({lost / len(found.rows):.1%}, `max_cut_fraction` is {data.max_cut_fraction:.1%}); the longest has {int(long.max())} tokens",
            hint=f"set `data.max_length: {_enough(long, data.max_cut_fraction)}` or more, leave long rows out with `max_tokens: {data.max_length}`, or raise `data.max_cut_fraction`",
        )


def _enough(lengths: NDArray[np.int32], share: float) -> int:
    """The smallest `max_length` that cuts no more than this share of the rows."""
    ranked = np.sort(lengths)
    return int(ranked[min(len(ranked) - 1, len(ranked) - 1 - int(share * len(ranked)))])


def _listed(bad: Sequence[Bad], report: Path) -> str:
    """The first bad rows, one a line, and how many there are in all."""
    return "\n       ".join(_lines(bad, report))


def _lines(bad: Sequence[Bad], report: Path) -> Iterator[str]:
    yield from (f"{each.place}: {each.reason}" for each in bad[:_SHOWN])
    if len(bad) > 1:
        yield f"{len(bad):,} bad rows in all, listed in {report.name}"
