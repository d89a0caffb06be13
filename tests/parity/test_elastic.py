"""A run goes on with another number of ranks: each row once per epoch, in the same order, to nearly the same losses."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from launcher.plan.types import Plan, SourcePlan
from launcher.runs import events
from launcher.runs.paths import RunDir
from tests.parity import resuming
from tests.parity.resuming import Part
from tests.support import tiny, trained

pytestmark = pytest.mark.train

EPOCHS = 3
CHAINS = {
    "2 ranks": [(2, 1, None)],
    "1 to 2": [(1, 2, 13), (2, 1, None)],
    "2 to 1 to 2": [(2, 1, 9), (1, 1, 17), (2, 2, None)],
    "1 to 4": [(1, 1, 13), (4, 1, None)],
}
"""Ranks, rows per rank, and after how many steps all ranks are killed."""


def plan(ranks: int, per_device: int = 1) -> Plan:
    """Two sources, 70 to 30, packed; 4 rows per optimizer step however they are split; no dropout."""
    sources = (SourcePlan("train", "train.jsonl", weight=0.7), SourcePlan("other", "other.jsonl", weight=0.3))
    return tiny.plan(
        data={"sources": sources, "packing": True},
        global_size=4,
        per_device=per_device,
        world_size=ranks,
        epochs=EPOCHS,
        save_steps=3,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The uninterrupted run on one rank."""
    folder = tmp_path_factory.mktemp("elastic")
    other = tiny.jsonl(folder / "other.jsonl", tiny.messages(40, seed=3))
    rows = tiny.messages(50)
    prepared = trained.run_dir(folder / "prepared", plan(1), rows, **{"data.other": str(other)})
    return resuming.run(resuming.copied(prepared, "whole"), [Part(plan(1))])


@pytest.mark.parametrize("chain", CHAINS)
def test_another_number_of_ranks_trains_the_same_rows_to_the_same_losses(whole: RunDir, chain: str):
    """What counts in the end is one pass after the other over the data, whoever trained which part of it."""
    parts = [Part(plan(ranks, rows), kill_at) for ranks, rows, kill_at in CHAINS[chain]]
    run = resuming.run(resuming.copied(RunDir(whole.root.parent / "prepared"), chain.replace(" ", "")), parts)

    facts = trained.facts(run)
    rows, fillers = facts["sets"]["train"]["rows"], facts["sets"]["train"]["fillers"]
    steps = facts["steps_per_epoch"]
    ledger = resuming.ledger(run, parts)
    assert sorted(ledger) == list(range(1, EPOCHS * steps + 1))
    for epoch in range(EPOCHS):
        seen = Counter(row for step in range(epoch * steps + 1, (epoch + 1) * steps + 1) for row in ledger[step])
        assert seen == Counter(range(rows + fillers))  # each once; fillers are the rows behind the others
    assert ledger == resuming.ledger(whole, [Part(plan(1))])

    went_on = resuming.resumed_at(run)
    assert went_on == [part.goes_on_at for part in parts[:-1]]
    assert all(one < two for one, two in pairwise(went_on))
    assert [event["world_size"] for event in events.read(run.events) if event["event"] == "resume"] == [
        part.plan.batch.world_size for part in parts[1:]
    ]
    assert "warning" not in {event["event"] for event in events.read(run.events)}
    apart = [abs(one - two) for one, two in zip(trained.losses(run), trained.losses(whole), strict=True)]
    print(f"\n{chain}: largest difference of the loss {max(apart):.1e} in {len(apart)} steps")
    assert max(apart) < 1e-4
