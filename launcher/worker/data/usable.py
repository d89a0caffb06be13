"""Which tokenised rows can be trained, and what stops a run: bad rows, answers cut off, nothing left."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from launcher.errors import DataError
from launcher.plan.types import DataPlan, SourcePlan
from launcher.worker.data.shards import Bad, SourceRows
from launcher.worker.data.tokenise import MOST_BAD_ROWS

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
    bad = list(source.bad()) if source.whole else list(islice(source.bad(), MOST_BAD_ROWS))
    return Usable(source, np.flatnonzero(keep), bad + (beyond if source.whole else []), counts, needs)


def _answer_cut(source: SourceRows, row: int, data: DataPlan) -> str:
    start, length = int(source.first[row]) + 1, int(source.lengths[row])
    return f"has no trained token within max_length {data.max_length}: the answer begins at token {start} of {length}"


def check(found: Sequence[Usable], data: DataPlan, report: Path, context_length: int | None = None) -> None:
    """Write the bad rows of all sources to `report` (JSON lines) and stop where the recipe says so.

    Args:
        found: every source.
        data: what the recipe accepts.
        report: the file for the bad rows.
        context_length: the longest row the model was made for, in tokens; no longer one is recommended.

    Raises:
        DataError: `on_bad_row: stop` and a row is bad; more of a source is bad, or cut short, than the recipe accepts; or nothing is left of it.
    """
    bad = [each for source in found for each in source.bad]
    if bad:
        lines = (json.dumps(vars(each), ensure_ascii=False) + "\n" for each in bad)
        report.write_text("".join(lines), encoding="utf-8")
    if bad and data.on_bad_row == "stop":
        needs = max((source.needs or 0 for source in found), default=0)
        longer = f", or {_longer(needs, context_length)}" if needs else ""
        again = "copy the file again from where it came" if all("file looks cut" in each.reason for each in bad) else ""
        raise DataError(
            _listed(bad, report, whole=all(source.source.whole for source in found)),
            hint=f"{again or 'correct the rows'}{longer}, or write `data.on_bad_row: drop`",
        )
    for source in found:
        _check_source(source, data, report)
    _check_ends(found, data, context_length)


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


def _check_ends(found: Sequence[Usable], data: DataPlan, context_length: int | None) -> None:
    """Refuse sources of which too many rows would lose the end of their answer, all at once."""
    short = [each for each in found if each.counts["lost_end"] > data.max_cut_fraction * len(each.rows)]
    if short:
        needs = max(_enough(each.source.lengths[each.rows], data.max_cut_fraction) for each in short)
        raise DataError(
            "\n       ".join(_ends_lost(each, data) for each in short),
            hint=f"{_longer(needs, context_length)}, leave long rows out with `max_tokens: {data.max_length}`, or raise `data.max_cut_fraction`",
        )


def _ends_lost(found: Usable, data: DataPlan) -> str:
    lost, rows = found.counts["lost_end"], found.rows
    lengths = found.source.lengths[rows]
    place = found.source.place(int(rows[int(np.argmax(lengths))]))
    return (
        f"{place}: max_length {data.max_length} cuts off the end of the answer in {lost} of {len(rows)} rows of source `{found.source.label}` "
        f"({lost / len(rows):.1%}, `max_cut_fraction` is {data.max_cut_fraction:.1%}); the longest has {int(lengths.max())} tokens"
    )


def _longer(needs: int, context_length: int | None) -> str:
    """The `max_length` that would do, or why none does."""
    if context_length is not None and needs > context_length:
        return f"split them ({needs} tokens are needed, and `data.max_length: {context_length}` is the most for this model)"
    return f"set `data.max_length: {needs}` or more"


def _enough(lengths: NDArray[np.int32], share: float) -> int:
    """The smallest `max_length` that cuts no more than this share of the rows."""
    ranked = np.sort(lengths)
    return int(ranked[len(ranked) - 1 - int(share * len(ranked))])


def _listed(bad: Sequence[Bad], report: Path, *, whole: bool = True) -> str:
    """The first bad rows, one a line, and how many there are in all."""
    return "\n       ".join(_lines(bad, report, whole=whole))


def _lines(bad: Sequence[Bad], report: Path, *, whole: bool) -> Iterator[str]:
    yield from (f"{each.place}: {each.reason}" for each in bad[:_SHOWN])
    if len(bad) > 1:
        ended = "" if whole else "; reading ended there (`data.on_bad_row: drop` reads and lists all)"
        yield f"{len(bad):,} bad rows{' in all' if whole else ''}, listed in {report.name}{ended}"
