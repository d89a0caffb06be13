"""Rows, tokens and steps: counted by `prepare` where it has run, else estimated from the files and marked so."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from launcher.plan.facts import Facts, SourceFacts
from launcher.plan.mixture import asked_shares, epochs
from launcher.plan.types import Estimate, MixturePlan, SourceEstimate
from launcher.recipe.data import Data, EvalSource, TrainSource
from launcher.recipe.training import Training

Counts = dict[str, int | None]


def estimate(data: Data, mixture: MixturePlan, training: Training, global_size: int, facts: Facts) -> Estimate:
    """Rows and tokens of one pass over the mixture, and optimizer steps in all.

    Rows are what the trainer sees: packed rows, when packing. None: unknown before `prepare` has run.
    """
    if facts.prepared is not None:
        return _prepared(facts.prepared, data.max_length, training, global_size)
    counts = {source.label: rows_of(source, facts.sources[source.label]) for source in data.datasets}
    sources = _mixed(data, mixture, counts, _left(data, counts), facts)
    rows = _sum([_passed(each.left, each.epochs) for each in sources])
    tokens = _sum([each.tokens for each in sources])
    if data.packing:
        rows = None if tokens is None else math.ceil(tokens / data.max_length)
    return Estimate(rows, tokens, _steps(training, rows, global_size), exact=False, sources=sources)


def rows_of(source: TrainSource | EvalSource, facts: SourceFacts) -> int | None:
    """Rows that will be read from a source."""
    return _least(facts.rows, source.max_rows)


def held_out_rows(source: EvalSource, counts: Mapping[str, int | None]) -> int | None:
    """Rows that an eval set takes from the training sources it is held out from."""
    base = _sum(list(counts.values())) if source.from_ == "all" else counts.get(source.from_ or "")
    if base is None:
        return source.max_rows if source.fraction is None else None
    share = base if source.fraction is None else max(1, round(base * source.fraction))
    return _least(share, source.max_rows)


def steps_per_epoch(rows: int, global_size: int) -> int:
    """Optimizer steps of one epoch; filler rows complete the last batch."""
    return math.ceil(rows / global_size)


def _left(data: Data, counts: Counts) -> Counts:
    """Rows of each source without those that are held out."""
    left = dict(counts)
    for each in data.eval_datasets:
        for label in [label for label in counts if each.from_ in ("all", label)]:
            held = held_out_rows(each.model_copy(update={"from_": label}), counts)
            known = left[label]
            left[label] = None if known is None or held is None else known - held
    return left


def _mixed(data: Data, mixture: MixturePlan, counts: Counts, left: Counts, facts: Facts) -> tuple[SourceEstimate, ...]:
    tokens = {label: _times(rows, facts.sources[label].tokens_per_row) for label, rows in left.items()}
    sizes: Mapping[str, float | None] = tokens if mixture.unit == "tokens" else left
    weights = {source.label: source.weight for source in data.datasets}
    most = {source.label: source.max_epochs for source in data.datasets}
    known = {label: float(size) for label, size in sizes.items() if size is not None}
    whole = len(known) == len(sizes)
    shares = asked_shares(
        known if whole else dict.fromkeys(sizes, 1.0), weights, mixture.temperature if whole else None
    )
    plain = shares is None and mixture.temperature is None
    passes = epochs(known, shares, mixture.stopping_strategy, most)[0] if whole and all(known.values()) else {}
    return tuple(
        SourceEstimate(
            label,
            counts[label],
            facts.sources[label].rows_exact,
            left=left[label],
            asked=None if shares is None else shares[label],
            epochs=passes.get(label, 1.0 if plain else None),
            tokens=_passed(tokens[label], passes.get(label, 1.0 if plain else None)),
        )
        for label in counts
    )


def _times(number: float | None, factor: float | None) -> float | None:
    return None if number is None or factor is None else number * factor


def _passed(size: float | None, passes: float | None) -> int | None:
    product = _times(size, passes)
    return None if product is None else round(product)


def _steps(training: Training, rows: int | None, global_size: int) -> int | None:
    if training.max_steps > 0:
        return training.max_steps
    if rows is None:
        return None
    return math.ceil(training.num_train_epochs * steps_per_epoch(max(rows, 1), global_size))


def _prepared(facts: Mapping[str, Any], max_length: int, training: Training, global_size: int) -> Estimate:
    train = facts.get("sets", {}).get("train", {})
    mixed = facts.get("mixture", {}).get("sources", {})
    rows = train.get("rows")
    sources = tuple(
        SourceEstimate(
            label,
            facts["sources"][label]["rows"],
            exact=True,
            left=facts["sources"][label]["rows"] - facts["sources"][label]["held_out"],
            asked=each["asked"],
            epochs=each["epochs"],
            tokens=each["tokens"],
        )
        for label, each in mixed.items()
    )
    longest = max((each["lengths"]["max"] for each in facts.get("sources", {}).values() if each["rows"]), default=None)
    longest = None if longest is None else min(max_length, longest)
    return Estimate(
        rows,
        train.get("tokens"),
        _steps(training, rows, global_size),
        rows is not None,
        sources,
        longest,
        () if longest is None else _lengths(facts, longest),
    )


def _lengths(facts: Mapping[str, Any], longest: int) -> tuple[tuple[int, float], ...]:
    """All sources' histograms as one: the middle of a bin stands for its rows, which are trained as often as their source."""
    found: Counter[int] = Counter()
    for label, each in facts.get("mixture", {}).get("sources", {}).items():
        for left, right, rows in facts["sources"][label]["histogram"]:
            if rows:
                found[min(longest, (left + right) // 2)] += rows * each["epochs"]
    return tuple(sorted(found.items()))


def _sum(numbers: list[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _least(rows: int | None, most: int | None) -> int | None:
    return rows if most is None or rows is None else min(rows, most)
