"""Numbers that are none stop a run within their step; losses that jump and ranks that lag are told."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from launcher.runs import attempts, checkpoints, events
from launcher.runs.paths import RunDir
from tests.support import tiny, trained, warm

ROWS = tiny.messages(30)


def train(run: RunDir, fault: str, *, step: int, failing: int = 1, ranks: int = 2) -> tuple[int, ...]:
    args = {"run_dir": str(run.root), "failing": failing, "step": step, "fault": fault}
    env = {"LAUNCHER_ATTEMPT": "1"}
    return warm.run("tests.worker.watchdog_cases:rank", args, ranks=ranks, torchrun=True, env=env).codes


def named(run: RunDir, name: str) -> list[dict[str, Any]]:
    return [event for event in events.read(run.events) if event["event"] == name]


def steps(run: RunDir) -> list[int]:
    return [event["step"] for event in named(run, "step")]


def failure(run: RunDir) -> attempts.ExitNote:
    found = attempts.first_failure(attempts.exits(run, 1))
    assert found is not None
    return found


def assert_stopped(run: RunDir, codes: tuple[int, ...], *, step: int, what: str, ranks: list[int], saved: int) -> str:
    """All ranks left within the step, nothing of it was saved, and the rows are told; returns the error's first line."""
    assert set(codes) == {93}
    note, (event,) = failure(run), named(run, "not_finite")
    assert (note.cause, note.code) == ("not_finite", 93)
    assert (event["step"], event["what"], event["ranks"]) == (step, what, ranks)
    assert steps(run) == list(range(1, step))
    newest = checkpoints.newest(run).checkpoint
    assert newest is not None
    assert newest.step == saved
    assert f"checkpoint-{saved} is from before" in str(note.hint)
    claim, _, rows = str(note.error).partition("\n")
    told = [row for rank in ranks for row in event["rows"][str(rank)]]
    assert all(re.fullmatch(r"train \(.*/train\.jsonl:\d+\)", row) for row in told)
    assert rows.startswith(f"rows:  {told[0]}")
    return claim


def plan(**changes: Any) -> Any:
    return tiny.plan(world_size=2, epochs=4.0, **{"save_steps": 2, **changes})


@pytest.mark.train
def test_a_loss_that_is_infinite_on_one_rank_stops_all_and_names_the_rows_of_that_micro_batch(tmp_path: Path):
    """Rank 1, second micro-batch of step 5: one row of the two that this rank took."""
    run = trained.run_dir(tmp_path / "run", plan(per_device=1), ROWS)
    codes = train(run, "inf_loss", step=5)
    claim = assert_stopped(run, codes, step=5, what="loss", ranks=[1], saved=4)

    assert claim.startswith("the loss is inf at step 5 on rank 1 (learning rate ")
    (event,) = named(run, "not_finite")
    assert len(event["rows"]["1"]) == 1
    assert event["learning_rate"] == pytest.approx(1e-3 * (32 - 4) / 32)  # linear from 0.001 over 32 steps, 4 are done


@pytest.mark.train
def test_a_weight_that_is_no_number_shows_in_the_loss_of_its_rank(tmp_path: Path):
    run = trained.run_dir(tmp_path / "run", plan(), ROWS)
    codes = train(run, "nan_weight", step=4)
    claim = assert_stopped(run, codes, step=4, what="loss", ranks=[1], saved=2)

    assert claim.startswith("the loss is nan at step 4 on rank 1")


@pytest.mark.train
@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
def test_a_gradient_that_is_no_number_stops_all(tmp_path: Path, max_grad_norm: float):
    """The loss is fine. Without clipping the norm is still known."""
    run = trained.run_dir(tmp_path / "run", plan(trainer={"max_grad_norm": max_grad_norm}), ROWS)
    codes = train(run, "nan_gradient", step=4)
    claim = assert_stopped(run, codes, step=4, what="gradient", ranks=[1], saved=2)

    assert claim.startswith("the gradient is not finite at step 4 on rank 1")


@pytest.mark.train
def test_weights_are_looked_at_before_they_are_saved(tmp_path: Path):
    """The update itself broke them: neither loss nor gradient of that step shows it, and it is a step that is saved."""
    run = trained.run_dir(tmp_path / "run", plan(), ROWS)
    codes = train(run, "nan_update", step=4)
    claim = assert_stopped(run, codes, step=4, what="weights", ranks=[0, 1], saved=2)

    assert claim.startswith("the weights are not finite at step 4")


@pytest.mark.train
def test_a_learning_rate_that_diverges_stops_the_run(tmp_path: Path):
    """Weights of that size overflow float32 in a few products."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(epochs=8.0, trainer={"learning_rate": 1e30}), ROWS)
    trained.train(run, code=93)

    assert failure(run).cause == "not_finite"
    assert steps(run)[-1] <= 3


@pytest.mark.train
@pytest.mark.parametrize("packing", [False, True])
def test_batches_of_fillers_are_no_alarm(tmp_path: Path, packing: bool):
    """Five rows in batches of eight, one row at a time: some micro-batches hold nothing that is trained."""
    data = {"packing": packing, "max_length": 40}
    run = trained.run_dir(tmp_path / "run", plan(global_size=8, per_device=1, data=data), tiny.messages(5))
    trained.train(run, ranks=2)

    assert trained.facts(run)["sets"]["train"]["fillers"] == 3
    assert named(run, "not_finite") == []


@pytest.mark.train
def test_a_loss_that_jumps_is_told_with_the_rows_of_its_step(tmp_path: Path):
    """Once; training goes on."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(epochs=6.0), ROWS)
    codes = train(run, "spike", step=40, failing=0, ranks=1)
    (warning,) = named(run, "warning")

    assert codes == (0,)
    assert warning["step"] == 40
    assert warning["loss"] == pytest.approx(20 * trained.losses(run)[38], rel=0.3)
    assert warning["message"].startswith("the loss jumped to ")
    assert len(warning["rows"]) == 4
    assert all(row == "filler" or re.fullmatch(r"train \(.*/train\.jsonl:\d+\)", row) for row in warning["rows"])


@pytest.mark.slow
@pytest.mark.train
def test_a_rank_that_keeps_the_others_waiting_is_told_once(tmp_path: Path):
    """0.12 s more per step than the other rank, in the first 50 steps and in the next."""
    run = trained.run_dir(tmp_path / "run", plan(max_steps=101, save_steps=1000), ROWS)
    codes = train(run, "slow_steps", step=1)
    (warning,) = named(run, "warning")

    assert codes == (0, 0)
    assert (warning["rank"], warning["host"], warning["step"]) == (1, os.uname().nodename, 50)
    assert warning["seconds"] > 0.12
    assert warning["seconds"] > 1.3 * warning["usual"]
