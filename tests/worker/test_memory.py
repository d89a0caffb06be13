"""Out of memory: the message describes the batch that was being trained."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from launcher.runs import attempts
from launcher.runs.paths import RunDir
from tests.support import tiny, trained, warm

ROWS = tiny.messages(30)


def failed(run: RunDir, where: str, *, ranks: int) -> attempts.ExitNote:
    """The first failure, after the last rank has run out of memory in its third step."""
    args = {"run_dir": str(run.root), "failing": ranks - 1, "step": 2, "where": where}
    job = warm.start("tests.worker.memory_cases:rank", args, ranks=ranks, torchrun=True, env={"LAUNCHER_ATTEMPT": "1"})
    assert job.wait().codes[-1] == 93
    first = attempts.first_failure(attempts.exits(run, 1))
    assert first is not None
    return first


def lines_of(run: RunDir, batch: list[list[int]]) -> set[int]:
    """Lines of train.jsonl, by what stands in the token ids that were trained."""
    ids: list[list[int]] = warm.run("tests.support.cases:prepared", {"run_dir": str(run.root), "label": "train"}).value[
        "input_ids"
    ]
    texts = trained.texts(run, "train")
    taken = [texts[ids.index([each for each in row if each])] for row in batch]
    questions = [row["messages"][0]["content"] for row in ROWS]
    return {1 + next(n for n, question in enumerate(questions) if question in text) for text in taken}


@pytest.mark.train
def test_the_rows_of_the_rank_that_ran_out_are_named(tmp_path: Path):
    """Of two ranks each has rows of its own; a person looks for the long one, or sees that there is none."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(global_size=8, world_size=2), ROWS)
    note = failed(run, "pass", ranks=2)
    claim, batch, rows = str(note.error).splitlines()
    seen: list[list[int]] = json.loads((run.root / "batch.json").read_text())

    assert (note.who, note.cause) == ("1", "out_of_memory")
    assert "you tried to allocate 4503599627370496 bytes" in claim
    lengths = [sum(1 for each in row if each) for row in seen]
    assert batch == (
        f"batch: step 3, pass 1 of 1: 4 rows, {sum(lengths)} tokens ({4 * max(lengths)} with padding), "
        f"{max(lengths)} of them in the longest"
    )
    assert {int(line) for line in re.findall(r"train\.jsonl:(\d+)\)", rows)} == lines_of(run, seen)
    assert [int(number) for number in re.findall(r": (\d+) tokens", rows)] == sorted(lengths, reverse=True)


@pytest.mark.train
@pytest.mark.parametrize("more", [{}, {"data": {"packing": True}}])
def test_an_update_that_does_not_fit_blames_no_row(tmp_path: Path, more: dict[str, Any]):
    """Gradients and optimizer states have the size of the model; the rows did fit."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(global_size=2, per_device=1, **more), ROWS)
    note = failed(run, "update", ranks=1)

    assert note.cause == "out_of_memory"
    assert str(note.error).splitlines()[1:] == ["batch: none; the weights were being updated, or measured, at step 3"]


@pytest.mark.train
def test_a_packed_row_is_named_by_some_of_its_examples(tmp_path: Path):
    """A row of thousands of tokens holds hundreds of examples; the message stays readable."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(global_size=1, data={"packing": True}), ROWS)
    _, batch, rows = str(failed(run, "pass", ranks=1).error).splitlines()

    assert re.fullmatch(r"batch: step 3, pass 1 of 1: 1 row, (\d+) tokens, \1 of them in the longest", batch)
    assert rows.count("train.jsonl:") <= 3
