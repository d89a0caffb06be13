"""Held-out rows: which rows of the training sources are measured instead of trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from launcher.errors import DataError
from launcher.plan.types import SourcePlan
from launcher.worker.data.mixture import generator

Numbers = NDArray[np.int64]


def hold_out(
    usable: Mapping[str, Numbers],
    groups: Mapping[str, NDArray[np.uint64] | None],
    wanted: Sequence[SourcePlan],
    seed: int,
) -> tuple[dict[str, Numbers], dict[str, dict[str, Numbers]]]:
    """Split training sources. The same seed and rows give the same split, on any machine and number of ranks.

    Args:
        usable: numbers of the rows that can be trained, by source.
        groups: for a source that is split by group, the group of each of its rows (not only the usable ones).
        wanted: the sets to hold out.
        seed: `mixture.seed`.

    Returns:
        What is left of each source, and for each wanted set the rows of each source it is taken from.

    Raises:
        DataError: nothing would be left to train on, or to hold out.
    """
    left = dict(usable)
    held: dict[str, dict[str, Numbers]] = {}
    for each in wanted:
        sources = [label for label in left if each.held_out_from in ("all", label)]
        held[each.label] = {}
        for label in sources:
            chosen = _choose(left[label], groups.get(label), each, label, seed)
            left[label] = np.setdiff1d(left[label], chosen)
            held[each.label][label] = chosen
        held[each.label] = _first_rows(held[each.label], each.max_rows)
        if not any(len(rows) for rows in held[each.label].values()):
            raise DataError(f"eval set `{each.label}`: no row to hold out from `{each.held_out_from}`")
    return left, held


def _choose(rows: Numbers, groups: NDArray[np.uint64] | None, wanted: SourcePlan, label: str, seed: int) -> Numbers:
    number = max(1, round((wanted.fraction or 0) * len(rows)))
    random = generator(seed, wanted.label, label)
    if groups is None:
        chosen = np.sort(random.permutation(rows)[:number])
    else:
        chosen = _whole_groups(rows, groups[rows], number, random)
    if len(chosen) >= len(rows):
        kept_together = f" (kept together by `{wanted.group_by}`)" if groups is not None else ""
        raise DataError(
            f"eval set `{wanted.label}` would take {len(chosen)} of {len(rows)} rows of source `{label}`{kept_together} and leave none to train on",
            hint="lower its `fraction`, or add rows",
        )
    return chosen


def _whole_groups(rows: Numbers, groups: NDArray[np.uint64], number: int, random: np.random.Generator) -> Numbers:
    """Rows of groups taken in a random order until at least `number` rows are there."""
    names, sizes = np.unique(groups, return_counts=True)
    order = random.permutation(len(names))
    enough = int(np.searchsorted(np.cumsum(sizes[order]), number)) + 1
    return rows[np.isin(groups, names[order[:enough]])]


def _first_rows(parts: dict[str, Numbers], limit: int | None) -> dict[str, Numbers]:
    if limit is None:
        return parts
    taken: dict[str, Numbers] = {}
    for label, rows in parts.items():
        room = limit - sum(len(each) for each in taken.values())
        taken[label] = rows[: max(0, room)]
    return taken
