"""Held-out rows: which rows of the training sources are measured instead of trained."""

from __future__ import annotations

import random
from collections.abc import Sequence

from launcher.errors import DataError
from launcher.plan.types import SourcePlan
from launcher.worker.data.collect import Collected
from launcher.worker.data.rows import Rows


def hold_out(
    sources: Sequence[Collected], wanted: Sequence[SourcePlan], seed: int
) -> tuple[list[Collected], dict[str, list[Collected]]]:
    """Split training sources. The same seed and rows give the same split, on any machine and number of ranks.

    Rows of training that hold the same tokens as a held-out row leave training too, so that no row is in both.

    Returns:
        What is left of each source, and for each wanted set its parts, one per source it is taken from.

    Raises:
        DataError: nothing would be left to train on, or to hold out.
    """
    left = {source.label: list(range(len(source.rows))) for source in sources}
    parts: dict[str, list[Collected]] = {}
    for each in wanted:
        parts[each.label] = []
        for source in sources:
            if each.held_out_from in ("all", source.label):
                chosen = _choose(left[source.label], each, source.label, seed)
                left[source.label] = sorted(set(left[source.label]) - set(chosen))
                parts[each.label].append(source.take(chosen))
        parts[each.label] = _first_rows(parts[each.label], each.max_rows)
        if not any(len(part.rows) for part in parts[each.label]):
            raise DataError(f"eval set `{each.label}`: no row to hold out from `{each.held_out_from}`")
    measured = {part.rows.key(i) for held in parts.values() for part in held for i in range(len(part.rows))}
    kept = [_without(source, left[source.label], measured) for source in sources]
    if not any(len(source.rows) for source in kept):
        raise DataError("no training rows are left: every row equals a held-out one")
    return kept, parts


def _choose(rows: list[int], wanted: SourcePlan, label: str, seed: int) -> list[int]:
    number = max(1, round((wanted.fraction or 0) * len(rows)))
    if number >= len(rows):
        raise DataError(
            f"eval set `{wanted.label}` would take {number} of {len(rows)} rows of source `{label}` and leave none to train on",
            hint="lower its `fraction`, or add rows",
        )
    chooser = random.Random(f"{seed}/{wanted.label}/{label}")  # noqa: S311 - chooses rows, keeps no secret
    return sorted(chooser.sample(rows, number))


def _first_rows(parts: list[Collected], limit: int | None) -> list[Collected]:
    if limit is None:
        return parts
    taken: list[Collected] = []
    for part in parts:
        room = limit - sum(len(each.rows) for each in taken)
        taken.append(part.take(list(range(min(room, len(part.rows))))))
    return taken


def _without(source: Collected, rows: list[int], measured: set[bytes]) -> Collected:
    kept = source.take([number for number in rows if source.rows.key(number) not in measured])
    kept.bad = source.bad
    return kept


def joined(parts: Sequence[Collected]) -> Rows:
    """The rows of all parts, in order."""
    rows = Rows()
    for part in parts:
        rows.extend(part.rows)
    return rows
