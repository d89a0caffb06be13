"""A run that was killed and continued ends where the uninterrupted one does: same losses, same weights, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.runs import events
from tests.parity.test_parity import VARIANTS, planned
from tests.support import tiny, trained

# 60 rows, 2 to a step, 2 epochs: an epoch ends at step 30 and the run at step 60.
ROWS = [*tiny.messages(50), *tiny.messages(10, seed=1)]  # no two are equal


def continued(tmp_path: Path, variant: str, *, save_steps: int, kill_at: int, ranks: int = 1) -> dict[str, list[int]]:
    """Train once in one go and once with a SIGKILL, compare both, and return the steps of what happened."""
    plan = planned(**VARIANTS[variant], global_size=2, world_size=ranks, save_steps=save_steps, epochs=2.0)
    whole = trained.run_dir(tmp_path / "whole", plan, ROWS)
    trained.train(whole, ranks=ranks)
    killed = trained.run_dir(tmp_path / "killed", plan, ROWS)
    trained.kill_at(killed, trained.start(killed, ranks=ranks), kill_at)
    trained.train(killed, attempt=2, ranks=ranks)

    assert trained.losses(killed) == trained.losses(whole)
    assert trained.weights(killed.model) == trained.weights(whole.model)
    seen = events.read(killed.events)
    return {name: [e["step"] for e in seen if e["event"] == name] for name in ("resume", "start", "end")}


@pytest.mark.train
@pytest.mark.parametrize("variant", ["full", "lora with dropout", "qlora"])
def test_a_killed_run_continues_across_an_epoch_border(tmp_path: Path, variant: str):
    """Weights, optimizer, schedule, random state and the place in the data all come back."""
    seen = continued(tmp_path, variant, save_steps=7, kill_at=24)

    assert seen["resume"][0] in (21, 28)
    assert seen["end"] == [60]


@pytest.mark.train
def test_a_killed_packed_run_continues(tmp_path: Path):
    """Two rows of at most 64 tokens hold about two examples each, so the run has fewer steps."""
    assert continued(tmp_path, "packed qlora with dropout", save_steps=3, kill_at=10)["resume"][0] >= 9


@pytest.mark.train
def test_a_run_continues_from_a_checkpoint_at_an_epoch_border(tmp_path: Path):
    """The first batch of the next epoch is neither skipped nor repeated."""
    assert continued(tmp_path, "lora with dropout", save_steps=30, kill_at=34)["resume"] == [30]


@pytest.mark.train
def test_two_killed_ranks_continue(tmp_path: Path):
    """Each rank has a random state of its own."""
    assert continued(tmp_path, "lora with dropout", save_steps=7, kill_at=24, ranks=2)["resume"][0] >= 21
