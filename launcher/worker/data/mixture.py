"""Which rows of each source one pass over the mixture takes. Pure arithmetic on lengths.

Sources are not drawn at random: each gets its quota (`launcher.plan.mixture`), to the row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from launcher.plan.mixture import asked_shares, epochs
from launcher.plan.types import MixturePlan, SourcePlan


@dataclass(frozen=True)
class Part:
    """What one source gives to a pass."""

    rows: NDArray[np.int64]
    """Numbers of its rows, repeated ones several times."""
    tokens: int
    epochs: float
    """How often the pass goes through the source."""
    asked: float | None
    """The share that weights or temperature ask for; None where every row is taken as it is."""


@dataclass(frozen=True)
class Mixed:
    """One pass over the mixture."""

    parts: dict[str, Part]
    limited_by: str | None
    """The source that ends the pass; None where every row is taken once."""


def mix(lengths: Mapping[str, NDArray[np.int32]], plan: MixturePlan, sources: Sequence[SourcePlan]) -> Mixed:
    """Choose the rows of one pass. The same lengths and plans give the same rows, anywhere.

    Args:
        lengths: tokens of each usable row, by source.
        plan: unit, temperature, stopping strategy, seed.
        sources: weight and `max_epochs` of each source.
    """
    by_tokens = plan.unit == "tokens"
    sizes = {label: float(each.sum() if by_tokens else len(each)) for label, each in lengths.items()}
    shares = asked_shares(sizes, {source.label: source.weight for source in sources}, plan.temperature)
    most = {source.label: source.max_epochs for source in sources}
    passes, limited_by = epochs(sizes, shares, plan.stopping_strategy, most)
    parts = {}
    for label, each in lengths.items():
        rows = chosen_rows(each, passes[label], plan.seed, label, by_tokens=by_tokens)
        tokens = int(each[rows].sum(dtype=np.int64))
        parts[label] = Part(rows, tokens, passes[label], None if shares is None else shares[label])
    return Mixed(parts, limited_by)


def chosen_rows(
    lengths: NDArray[np.int32], passes: float, seed: int, label: str, *, by_tokens: bool
) -> NDArray[np.int64]:
    """All rows as often as `passes` is whole, and for the rest a seeded choice that comes nearest to its size.

    The choice is a prefix of one seeded order, so that other weights take more or fewer of the same rows; at least
    one row is taken. Within a pass, rows keep the order of the source.
    """
    number = len(lengths)
    if not number:
        return np.empty(0, np.int64)
    whole = int(passes + 1e-9)
    order = generator(seed, label).permutation(number)
    reached = np.cumsum(lengths[order] if by_tokens else np.ones(number, np.int64), dtype=np.int64)
    wanted = (passes - whole) * float(reached[-1])
    taken = int(np.searchsorted(reached, wanted))
    if taken < number and wanted - (reached[taken - 1] if taken else 0) > reached[taken] - wanted:
        taken += 1
    taken = max(taken, 0 if whole else 1)
    return np.concatenate([np.tile(np.arange(number), whole), np.sort(order[:taken])]).astype(np.int64)


def generator(seed: int, *names: str) -> np.random.Generator:
    """A random generator for one purpose: the same seed and names give the same numbers on any machine."""
    digest = hashlib.sha256("/".join([str(seed), *names]).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
