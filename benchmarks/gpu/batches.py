"""Random tokens in documents of seeded lengths, as rows for TRL: padded, or packed best fit decreasing."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.gpu.setup import Setup

LENGTHS = "log-normal, median 600 tokens, sigma 0.9, at least 16, cut at max_length; seed 0"


def lengths(setup: Setup, count: int) -> np.ndarray:
    """[count] tokens of each document."""
    if setup.documents == "full":
        return np.full(count, setup.max_length)
    drawn = np.random.default_rng(0).lognormal(np.log(min(600, setup.max_length / 4)), 0.9, count)
    return np.clip(drawn, 16, setup.max_length).astype(int)


def dataset(setup: Setup, steps: int) -> Any:
    """A `datasets.Dataset` with `input_ids` and `labels` (and `seq_lengths`, packed) for that many steps."""
    from datasets import Dataset
    from trl import pack_dataset

    rows = setup.rows * (steps + 1)
    sizes = lengths(setup, rows)
    if setup.packing:  # enough documents to fill the rows
        sizes = lengths(setup, int(rows * setup.max_length / sizes.mean() * 1.1) + setup.rows)
    random = np.random.default_rng(1)
    documents = [random.integers(3, setup.shape.vocabulary, size).tolist() for size in sizes]
    columns = {"input_ids": documents, "labels": documents}  # every token bears a label, except a document's first
    made = Dataset.from_dict(columns)
    if setup.packing:
        made = pack_dataset(made, setup.max_length, "bfd")
    return made.shuffle(seed=0).select(range(rows))


class Counting:
    """TRL's collator, with a note of what each batch held."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate
        self.batches: list[tuple[int, int, int, int]] = []
        """Of each batch: tokens with a label to predict, tokens computed, tokens and squared tokens of its documents."""

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        """Collate, and count."""
        batch = self.collate(rows)
        documents = [size for row in rows for size in row.get("seq_lengths") or [len(row["input_ids"])]]
        tokens, computed = sum(documents), batch["input_ids"].numel()
        self.batches.append((tokens - len(documents), computed, tokens, sum(size**2 for size in documents)))
        return batch
