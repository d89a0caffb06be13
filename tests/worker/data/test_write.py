"""Rows gathered from shards, against the same rows put together one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launcher.worker.data.encode import Encoded
from launcher.worker.data.packing import Packed, pack
from launcher.worker.data.shards import Draft, SourceRows, commit
from launcher.worker.data.write import gathered, sequences
from tests.support import tiny, trained, warm


def random_rows(number: int, seed: int) -> list[Encoded]:
    """Rows of 1 to 40 tokens with 0 to 3 trained spans."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(number):
        length = int(random.integers(1, 41))
        edges = sorted(random.choice(length + 1, size=min(length + 1, 2 * int(random.integers(0, 4))), replace=False))
        spans = [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=False)]
        rows.append(Encoded(random.integers(0, 999, length).tolist(), spans))
    return rows


def shards(folder: Path, label: str, rows: list[Encoded], per_shard: int) -> SourceRows:
    (folder / label).mkdir()
    for number, start in enumerate(range(0, len(rows), per_shard)):
        draft = Draft()
        for offset, row in enumerate(rows[start : start + per_shard]):
            draft.add(row, start + offset + 1, None, None)
        draft.write(folder / label / f"{number:08d}.arrow", {"file": f"{label}:", "bytes": 0, "bad": []})
    commit(folder / label, {})
    return SourceRows(label, folder / label)


def one_by_one(rows: list[list[Encoded]], taken: Any, plan: Packed) -> tuple[list[int], list[bool]]:
    ids: list[int] = []
    marks: list[bool] = []
    for piece, start, stop in zip(plan.sequence, plan.start, plan.stop, strict=True):
        row = rows[taken.source[piece]][taken.row[piece]]
        trained_ = [any(a <= i < b for a, b in row.spans) for i in range(len(row.ids))]
        ids += row.ids[start:stop]
        marks += trained_[start:stop]
    return ids, marks


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
def test_gathered_tokens_and_marks_are_those_of_the_rows(tmp_path: Path, strategy: Any):
    """Two sources in shards of 7 and 11 rows, shuffled, cut into rows of 16 tokens."""
    rows = [random_rows(60, 1), random_rows(45, 2)]
    sources = [shards(tmp_path, "a", rows[0], 7), shards(tmp_path, "b", rows[1], 11)]
    taken = sequences(sources, [np.arange(60), np.arange(45)]).take(np.random.default_rng(3).permutation(105))
    plan = pack(taken.length, 16, strategy)
    ids, marks = gathered(taken, plan.sequence, plan.start, plan.stop - plan.start)

    assert (ids.tolist(), marks.tolist()) == one_by_one(rows, taken, plan)


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
def test_packed_rows_hold_every_kept_token_once(tmp_path: Path, strategy: str):
    """Through the whole stage: pieces of 60 conversations in rows of 24 tokens; the first token of a piece is not trained."""
    plan = tiny.plan(
        data={"packing": True, "packing_strategy": strategy, "max_length": 24, "max_cut_fraction": 1.0,
              "on_bad_row": "drop", "max_bad_fraction": 1.0}
    )  # fmt: skip
    run = trained.run_dir(tmp_path / "run", plan, tiny.messages(50))
    rows = warm.run("tests.support.cases:prepared", {"run_dir": str(run.root), "label": "train"}).value
    facts = trained.facts(run)["sets"]["train"]
    real = range(facts["rows"])

    assert sum(len(rows["input_ids"][i]) for i in real) == facts["tokens"]
    assert max(len(rows["input_ids"][i]) for i in real) <= 24
    assert [sum(lengths) for lengths in rows["seq_lengths"]] == [len(ids) for ids in rows["input_ids"]]
    heads = [label for i in real for label in at_heads(rows["labels"][i], rows["seq_lengths"][i])]
    assert set(heads) == {-100}
    assert sum(label != -100 for i in real for label in rows["labels"][i]) == facts["trained_tokens"]
    if strategy != "bfd":
        assert facts["cut_tokens"] == 0


def at_heads(labels: list[int], lengths: list[int]) -> list[int]:
    return [labels[sum(lengths[:piece])] for piece in range(len(lengths))]
