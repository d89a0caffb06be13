"""The figures of `data.json`: of each source, of each set, of the mixture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from launcher.plan.types import DataPlan
from launcher.text import counted
from launcher.worker.data.contamination import EvalRows
from launcher.worker.data.mixture import Mixed
from launcher.worker.data.packing import Packed
from launcher.worker.data.usable import Usable
from launcher.worker.data.write import Sequences, Written

_BINS = 48
_MANY_REMOVED = 0.01
_SHARE_OFF = 0.005


def written(facts: Written, taken: Sequences, plan: Packed) -> dict[str, Any]:
    """One set as it was written."""
    sizes = (plan.stop - plan.start).astype(np.int64)
    pieces = np.bincount(plan.sequence, minlength=len(taken))
    return {
        "rows": facts.rows,
        "fillers": facts.fillers,
        "sequences": len(taken),
        "tokens": facts.tokens,
        "trained_tokens": facts.trained,
        "split_sequences": int((pieces > 1).sum()),
        "cut_tokens": int(taken.length.sum(dtype=np.int64) - sizes.sum()),
        "trained_by_source": {
            source.label: number for source, number in zip(taken.sources, facts.trained_by_source, strict=True)
        },
        "sha256": facts.sha256,
    }


def sources(
    found: Mapping[str, Usable],
    measured: Mapping[str, Sequence[EvalRows]],
    removed: Mapping[str, Mapping[str, int]],
    train: Mapping[str, Any],
    max_length: int,
) -> dict[str, dict[str, Any]]:
    """Each source as it was read: what is usable, what was left out and why, how long its rows are."""
    own = {part.source.label for parts in measured.values() for part in parts if part.label == part.source.label}
    facts = {}
    for label, each in found.items():
        lengths = each.source.lengths[each.rows]
        held_out = sum(len(part.rows) for parts in measured.values() for part in parts if part.source is each.source)
        facts[label] = {
            "kind": "eval" if label in own else "train",
            "format": each.source.facts.get("format"),
            "read": each.source.number_read,
            "rows": len(each.rows),
            "tokens": int(lengths.sum(dtype=np.int64)),
            "trained_tokens": train["trained_by_source"].get(label),
            "bad": len(each.bad),
            **each.counts,
            "duplicates": removed.get(label, {}).get("duplicates", 0),
            "near_duplicates": removed.get(label, {}).get("near_duplicates", 0),
            "contaminated": removed.get(label, {}).get("contaminated", 0),
            "held_out": 0 if label in own else held_out,
            "lengths": _lengths(lengths),
            "histogram": _histogram(lengths, max_length),
        }
    return facts


def _lengths(lengths: NDArray[np.int32]) -> dict[str, float]:
    p50, p90, p99 = (int(each) for each in np.percentile(lengths, [50, 90, 99], method="higher"))
    return {"mean": round(float(lengths.mean()), 1), "p50": p50, "p90": p90, "p99": p99, "max": int(lengths.max())}


def _histogram(lengths: NDArray[np.int32], max_length: int) -> list[list[int]]:
    """[left, right, rows] of bins of one width; the last one takes what is longer."""
    top = int(max(np.percentile(lengths, 99.5) * 1.1, min(max_length, lengths.max()) * 1.02)) + 1
    width = max(1, -(-top // _BINS))
    edges = np.arange(0, top + width, width)
    counts = np.bincount(np.minimum(lengths // width, len(edges) - 2), minlength=len(edges) - 1)
    return [[int(left), int(left + width), int(count)] for left, count in zip(edges[:-1], counts, strict=True)]


def mixture(mixed: Mixed, data: DataPlan) -> dict[str, Any]:
    """What was asked of the mixture, and what it became."""
    plan, most = data.mixture, {source.label: source.max_epochs for source in data.sources}
    rows = {label: len(part.rows) for label, part in mixed.parts.items()}
    tokens = {label: part.tokens for label, part in mixed.parts.items()}
    sizes = tokens if plan.unit == "tokens" else rows
    facts = {
        label: {
            "asked": None if part.asked is None else round(part.asked, 6),
            "share": round(sizes[label] / max(1, sum(sizes.values())), 6),
            "share_tokens": round(tokens[label] / max(1, sum(tokens.values())), 6),
            "rows": rows[label],
            "tokens": tokens[label],
            "epochs": round(part.epochs, 6),
            "max_epochs": most[label],
        }
        for label, part in mixed.parts.items()
    }
    return {
        "unit": plan.unit,
        "strategy": plan.stopping_strategy,
        "temperature": plan.temperature,
        "seed": plan.seed,
        "limited_by": mixed.limited_by,
        "sources": facts,
    }


def warnings(found: Mapping[str, Usable], removed: Mapping[str, Mapping[str, int]], mixed: Mixed) -> list[str]:
    """What a person should know about the rows, though nothing stops the run."""
    return [*_cut(found), *_removed(found, removed), *_shares(mixed)]


def _cut(found: Mapping[str, Usable]) -> Iterator[str]:
    for label, each in found.items():
        if each.counts["cut"]:
            lengths = each.source.lengths[each.rows]
            longest = int(each.rows[int(np.argmax(lengths))])
            yield f"`{label}`: {counted(each.counts['cut'], 'row')} cut at max_length; the longest has {int(lengths.max()):,} tokens: {each.source.place(longest)}"


def _removed(found: Mapping[str, Usable], removed: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    words = {
        "duplicates": ("repeat an earlier row", "data.deduplicate: none"),
        "near_duplicates": ("nearly repeat an earlier row", "data.deduplicate: exact"),
        "contaminated": ("are in an eval set too", "data.decontaminate: false"),
    }
    for label, counts in removed.items():
        for kind, (what, key) in words.items():
            number = counts.get(kind, 0)
            if number > _MANY_REMOVED * len(found[label].rows):
                share = number / len(found[label].rows)
                yield f"{number:,} rows of `{label}` ({share:.1%}) {what} and are left out (`{key}` keeps them)"


def _shares(mixed: Mixed) -> Iterator[str]:
    total = sum(part.tokens for part in mixed.parts.values())
    by_tokens = {label: part.tokens / max(1, total) for label, part in mixed.parts.items()}
    for label, part in mixed.parts.items():
        if mixed.limited_by is None and part.asked is not None and abs(by_tokens[label] - part.asked) > _SHARE_OFF:
            yield f"`{label}` has {by_tokens[label]:.1%} of the tokens, {part.asked:.1%} are asked: every row is taken once (stopping_strategy)"
