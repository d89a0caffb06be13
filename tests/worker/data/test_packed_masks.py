"""Trained tokens of packed rows, written by hand: those of each example, without the first token, which nothing predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.plan.types import SourcePlan
from launcher.recipe.formats import FORMATS
from tests.support import tiny, trained, warm
from tests.worker.data.test_masks import BOTH, LAST, TWO_TURNS, A, E, U

ALL = LAST.replace("⟦", "").replace("⟧", "")
START = "<|im_start|>"
TALK = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}
TASK = {"instruction": "Add.", "input": "2 and 3", "output": "5"}
PAIR = {"prompt": "Q: 2 plus 3?\n", "completion": "5"}

# Format, rule → the row and its marks when it stands alone in a packed row.
ORACLES = {
    ("messages", "assistant"): (TWO_TURNS, BOTH),
    ("messages", "completion"): (TWO_TURNS, LAST),
    ("messages", "all"): (TWO_TURNS, f"{START}⟦{ALL.removeprefix(START)}⟧"),
    ("sharegpt", "assistant"): (TALK, f"{U}Hi{E}\n{A}⟦Hello.{E}⟧\n"),
    ("sharegpt", "all"): (TALK, f"{START}⟦user\nHi{E}\n{A}Hello.{E}\n⟧"),
    ("alpaca", "assistant"): (TASK, f"{U}Add.\n\n2 and 3{E}\n{A}⟦5{E}⟧\n"),
    ("alpaca", "completion"): (TASK, f"{U}Add.\n\n2 and 3{E}\n{A}⟦5{E}⟧\n"),
    ("prompt_completion", "completion"): (PAIR, f"Q: 2 plus 3?\n⟦5{E}⟧"),
    ("prompt_completion", "all"): (PAIR, f"Q⟦: 2 plus 3?\n5{E}⟧"),
    ("text", "all"): ({"text": "Q is five."}, f"Q⟦ is five.{E}⟧"),
    ("tokenized", "all"): ({"input_ids": [1, 2, 1, 2], "labels": [1, -100, 1, 2]}, f"{START}{E}⟦{START}{E}⟧"),
}
SHORT = {"text": "Q five."}
SHORT_MARKS = f"Q⟦ five.{E}⟧"


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
@pytest.mark.parametrize("case", ORACLES, ids="/".join)
def test_each_format_and_rule_in_a_packed_row(tmp_path: Path, case: tuple[Any, str], strategy: str):
    """Alone, and beside a second example: one of the two begins in the middle of the row."""
    row, marks = ORACLES[case]
    packing = {"packing": True, "packing_strategy": strategy, "max_length": 256}

    assert packed(tmp_path / "one", {"a": row}, loss_on=case[1], **packing) == [marks]
    if case[1] == FORMATS[case[0]].default_loss_on:
        both = packed(tmp_path / "two", {"a": row, "b": SHORT}, loss_on="auto", **packing)
        assert both in ([marks + SHORT_MARKS], [SHORT_MARKS + marks])


def packed(root: Path, rows: dict[str, dict[str, Any]], **data: Any) -> list[str]:
    """The packed rows of one source for each row, as text with marks."""
    plan = tiny.plan(data={"sources": tuple(SourcePlan(label, label) for label in rows), **data}, global_size=1)
    placed = {f"data.{label}": str(tiny.jsonl(root / f"{label}.jsonl", [row])) for label, row in rows.items()}
    run = tiny.run_dir(root / "run", plan, {"model": str(tiny.model(root / "model")), **placed})
    trained.prepare(run)
    return list(warm.run("tests.support.cases:marked", {"run_dir": str(run.root), "label": "train"}).value)
