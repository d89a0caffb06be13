"""Filler rows take part in no loss and no gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny, warm

FILLER = {"input_ids": [0, 0], "labels": [-100, -100]}
ROWS: list[dict[str, list[int]]] = [
    {"input_ids": [1, 260, 33, 2], "labels": [-100, -100, 33, 2]},
    {"input_ids": [1, 19, 270, 2], "labels": [-100, 19, 270, 2]},
]


def measured(model: Path, rows: list[dict[str, list[int]]], *, packing: bool) -> dict[str, Any]:
    full = [{**row, "seq_lengths": [len(row["input_ids"])]} if packing else row for row in rows]
    args = {"model": str(model), "rows": full, "packing": packing}
    return dict(warm.run("tests.support.cases:gradients", args).value)


@pytest.mark.parametrize("packing", [False, True])
def test_a_batch_of_fillers_has_exactly_no_loss_and_no_gradient(tmp_path: Path, *, packing: bool):
    """Not small: zero."""
    alone = measured(tiny.model(tmp_path / "model"), [FILLER, FILLER], packing=packing)

    assert (alone["loss"], alone["largest"], alone["trained"]) == (0.0, 0.0, 0)


@pytest.mark.parametrize("packing", [False, True])
def test_a_filler_changes_nothing_for_the_rows_beside_it(tmp_path: Path, *, packing: bool):
    """The mean is taken over trained tokens, so an extra row cannot dilute it; sums in float32 stay within 2e-6."""
    model = tiny.model(tmp_path / "model")
    without = measured(model, ROWS, packing=packing)
    with_one = measured(model, [*ROWS, FILLER], packing=packing)

    assert with_one["trained"] == without["trained"] == 5
    assert with_one["loss"] == pytest.approx(without["loss"], abs=2e-6)
    assert without["largest"] > 0
    assert with_one["largest"] == pytest.approx(without["largest"], abs=2e-6)
