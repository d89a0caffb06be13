"""Rows, tokens and steps: counted by `prepare` where it has run, else estimated from the files and marked so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from launcher.plan.facts import Facts, SourceFacts
from launcher.plan.types import Estimate, SourceEstimate
from launcher.recipe.data import Data, EvalSource, TrainSource
from launcher.recipe.training import Training


def estimate(data: Data, training: Training, global_size: int, facts: Facts) -> Estimate:
    """Rows and tokens per epoch, and optimizer steps in all.

    Rows are what the trainer sees: packed rows, when packing. None: unknown before `prepare` has run.
    """
    if facts.prepared is not None:
        return _prepared(facts.prepared, training, global_size)
    counts = {source.label: rows_of(source, facts.sources[source.label]) for source in data.datasets}
    held = [held_out_rows(source, counts) for source in data.eval_datasets if source.from_]
    rows = _sum([*counts.values(), *(None if each is None else -each for each in held)])
    tokens = _tokens(counts, facts, rows)
    if data.packing:
        rows = None if tokens is None else math.ceil(tokens / data.max_length)
    sources = tuple(SourceEstimate(label, count, facts.sources[label].rows_exact) for label, count in counts.items())
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


def _steps(training: Training, rows: int | None, global_size: int) -> int | None:
    if training.max_steps > 0:
        return training.max_steps
    if rows is None:
        return None
    return math.ceil(training.num_train_epochs * steps_per_epoch(max(rows, 1), global_size))


def _prepared(facts: Mapping[str, Any], training: Training, global_size: int) -> Estimate:
    train = facts.get("sets", {}).get("train", {})
    rows, read = train.get("rows"), train.get("sources", {})
    sources = tuple(SourceEstimate(label, counts.get("rows"), exact=True) for label, counts in read.items())
    return Estimate(rows, train.get("tokens"), _steps(training, rows, global_size), rows is not None, sources)


def _tokens(counts: Mapping[str, int | None], facts: Facts, rows: int | None) -> int | None:
    """Tokens of one epoch: the mean row of each source, times its rows, less the share that is held out."""
    before = _sum(list(counts.values()))
    if rows is None or not before:
        return None
    means = {label: facts.sources[label].tokens_per_row for label in counts}
    if any(mean is None for mean in means.values()):
        return None
    return round(sum((counts[label] or 0) * (means[label] or 0) for label in counts) * rows / before)


def _sum(numbers: list[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _least(rows: int | None, most: int | None) -> int | None:
    return rows if most is None or rows is None else min(rows, most)
