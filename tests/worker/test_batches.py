"""The rows of a step, worked out afterwards, are those that the trainer took: against a ledger of what was fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.plan import codec
from launcher.plan.types import SourcePlan
from launcher.runs.paths import RunDir
from tests.support import tiny, trained, warm

ROWS = tiny.messages(21)  # an epoch that no batch below divides: the last one is completed by fillers


def train(run: RunDir, *, ranks: int, attempt: int = 1) -> list[dict[str, Any]]:
    """Train with a ledger; that of each rank."""
    args = {"run_dir": str(run.root), "attempt": attempt}
    env = {"LAUNCHER_ATTEMPT": str(attempt)}
    result = warm.run("tests.worker.watchdog_cases:rank_with_ledger", args, ranks=ranks, torchrun=True, env=env)
    assert set(result.codes) == {0}, (result.codes, result.logs)
    return [json.loads((run.root / f"ledger-{attempt}-{rank}.json").read_text()) for rank in range(ranks)]


def assert_exact(ledgers: list[dict[str, Any]], *, first: int, last: int) -> None:
    """What each rank fetched is what every rank says that it took; one batch more may have been fetched ahead."""
    for rank, ledger in enumerate(ledgers):
        for other in ledgers:
            told = [batch for step in range(first, last + 1) for batch in other["told"][str(rank)][str(step)]]
            assert ledger["fetched"][: len(told)] == told
            assert len(ledger["fetched"]) - len(told) in (0, 1)


@pytest.mark.train
@pytest.mark.parametrize(
    "case",
    [
        {"world_size": 1, "global_size": 4, "per_device": 4},
        {"world_size": 1, "global_size": 4, "per_device": 1},
        {"world_size": 2, "global_size": 4, "per_device": 2},
        {"world_size": 2, "global_size": 8, "per_device": 2},
        {"world_size": 2, "global_size": 4, "per_device": 1, "data": {"packing": True, "max_length": 96}},
    ],
    ids=["one rank", "accumulation", "two ranks", "two ranks, accumulation", "packed"],
)
def test_the_rows_of_each_step_are_known(tmp_path: Path, case: dict[str, Any]):
    """Over three epochs, each with an order of its own."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(epochs=3.0, **case), ROWS)
    last = int(trained.facts(run)["max_steps"])
    assert last >= 3

    assert_exact(train(run, ranks=case["world_size"]), first=1, last=last)


@pytest.mark.train
def test_the_rows_are_known_after_a_resume_within_an_epoch(tmp_path: Path):
    """Six steps to an epoch: the first attempt ends within the first one, the second goes over two borders."""
    case = {"world_size": 2, "global_size": 4, "per_device": 1, "save_steps": 4}
    run = trained.run_dir(tmp_path / "run", tiny.plan(max_steps=4, **case), ROWS)
    assert trained.facts(run)["steps_per_epoch"] == 6
    assert_exact(train(run, ranks=2), first=1, last=4)
    run.plan.write_text(codec.dumps(tiny.plan(max_steps=14, **case)), encoding="utf-8")
    trained.prepare(run)

    assert_exact(train(run, ranks=2, attempt=2), first=5, last=14)


@pytest.mark.train
@pytest.mark.parametrize("packed", [False, True])
def test_a_row_leads_back_to_its_line(tmp_path: Path, packed: bool):
    """All lines of the file are found once; what only completes a batch is called a filler."""
    source = SourcePlan("sums", "train.jsonl")
    plan = tiny.plan(source=source, max_steps=1, data={"packing": packed, "max_length": 96})
    data = tiny.jsonl(tmp_path / "sums.jsonl", ROWS)
    run = trained.run_dir(tmp_path / "run", plan, ROWS, **{"data.sums": str(data)})
    (ledger,) = train(run, ranks=1)

    found = [text for row in ledger["rows"] for text in row.split(" + ")]
    assert sorted(text for text in found if text != "filler") == sorted(f"sums ({data}:{n})" for n in range(1, 22))
    assert "filler" in found
    assert any(" + " in row for row in ledger["rows"]) == packed
