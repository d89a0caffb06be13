"""Hangs: found within the limit, the right rank named, stacks of all ranks saved, nothing left; and no false alarm."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.runs import attempts, checkpoints, events
from launcher.runs.paths import RunDir
from tests.support import tiny, trained, warm

ROWS = tiny.messages(30)
LIMIT_S = 5
LONG = {"epochs": 400.0, "save_steps": 100_000}


def run_dir(tmp_path: Path, **changes: Any) -> RunDir:
    plan = tiny.changed(tiny.plan(world_size=2, **{**LONG, **changes}), hang_limit_s=LIMIT_S)
    return trained.run_dir(tmp_path / "run", plan, ROWS)


def start(run: RunDir, fault: str, *, failing: int = 1, step: int = 4) -> warm.Job:
    args = {"run_dir": str(run.root), "failing": failing, "step": step, "fault": fault}
    return warm.start("tests.worker.watchdog_cases:rank", args, ranks=2, env={"LAUNCHER_ATTEMPT": "1"})


def last_step(run: RunDir) -> int:
    return max((event["step"] for event in events.read(run.events) if event["event"] == "step"), default=0)


def wait_until(done: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def monitors(run: RunDir) -> list[int]:
    """Monitors of this run that live."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            argv = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"launcher.worker.monitor" in argv and str(run.root).encode() in argv:
            found.append(int(folder.name))
    return found


def stopped(run: RunDir, job: warm.Job) -> list[int]:
    """SIGSTOP of all ranks and their monitor in the midst of training; returns their pids."""
    wait_until(lambda: last_step(run) >= 3)
    everyone = [*monitors(run), *job.pids]
    assert len(everyone) == 3
    send(everyone, signal.SIGSTOP)
    return everyone


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


def hang(run: RunDir) -> dict[str, Any]:
    (found,) = [event for event in events.read(run.events) if event["event"] == "hang"]
    return found


def stack(run: RunDir, rank: int) -> str:
    return run.rank_stack(1, rank).read_text()


def assert_hung(run: RunDir, job: warm.Job, *, rank: int, phases: tuple[str, ...]) -> str:
    """It ended, that rank was blamed, and everything a person needs is there; returns the error."""
    result = job.wait()
    assert not result.timed_out
    assert result.codes == (-9, -9)
    first = attempts.first_failure(attempts.exits(run, 1))
    assert first is not None
    assert (first.who, first.cause, first.code) == (str(rank), "hang", 86)
    found = hang(run)
    assert (found["rank"], found["host"], found["error"]) == (rank, os.uname().nodename, first.error)
    assert found["phase"] in phases
    assert LIMIT_S <= found["seconds"] < 2 * LIMIT_S
    assert f"logs/attempt-1/rank-{rank}.stack" in str(first.hint)
    for each in (0, 1):
        assert "(most recent call first)" in stack(run, each)
        assert "run_path" in stack(run, each) or "_become" in stack(run, each)
    wait_until(lambda: not monitors(run), 10)
    return str(first.error)


@pytest.mark.train
@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_rank_is_found_and_named(tmp_path: Path, rank: int):
    """SIGSTOP. The other rank only waits for it; rank 0 has started the monitor, which must outlive that."""
    run = run_dir(tmp_path)
    job = trained.start(run, ranks=2)
    wait_until(lambda: last_step(run) >= 3)
    os.kill(job.pids[rank], signal.SIGSTOP)
    error = assert_hung(run, job, rank=rank, phases=("data", "forward", "backward", "update", "agree"))

    assert error.startswith(f"rank {rank} did not arrive: it has been ")
    assert error.endswith("(limit 5 s); the process is stopped, by SIGSTOP for instance")


@pytest.mark.train
@pytest.mark.slow
def test_a_sleeping_data_loader_is_found_and_named(tmp_path: Path):
    """The stack shows where it sleeps. Fetching goes one batch ahead: the fourth is fetched in step 3."""
    run = run_dir(tmp_path)
    error = assert_hung(run, start(run, "slow_fetch"), rank=1, phases=("data",))

    assert error.startswith("rank 1 did not arrive: it has been loading data for ")
    assert error.endswith(" s at step 3 (limit 5 s)")
    assert "in patched" in stack(run, 1)
    assert "in patched" not in stack(run, 0)


@pytest.mark.train
@pytest.mark.slow
def test_a_data_loader_that_sleeps_in_its_own_process_shows_its_stack(tmp_path: Path):
    """The rank only waits for a queue; what a person needs is where the worker is."""
    run = run_dir(tmp_path, trainer={"dataloader_num_workers": 1, "dataloader_prefetch_factor": 2})
    assert_hung(run, start(run, "slow_fetch", step=8), rank=1, phases=("data",))

    assert "_worker_loop" in stack(run, 1)
    assert "in patched" in stack(run, 1)


@pytest.mark.train
@pytest.mark.slow
def test_a_rank_that_holds_the_gil_is_found_and_named(tmp_path: Path):
    """No Python runs in it, not even a thread; both ranks are in the forward pass, and the stacks tell who waits."""
    run = run_dir(tmp_path)
    error = assert_hung(run, start(run, "held_gil"), rank=1, phases=("forward",))

    assert error.startswith("rank 1 did not arrive: it has been in the forward pass for ")
    assert "watchdog_cases.py" in stack(run, 1)


@pytest.mark.train
@pytest.mark.slow
def test_slow_steps_that_go_on_are_no_hang(tmp_path: Path):
    """One pause below the limit, more than ten times a usual step; the run ends well."""
    run = run_dir(tmp_path, epochs=1.0)
    job = start(run, "pause")

    assert job.wait().codes == (0, 0)
    assert [event for event in events.read(run.events) if event["event"] == "hang"] == []
    assert not run.rank_stack(1, 0).exists()


@pytest.mark.train
@pytest.mark.slow
def test_a_step_longer_than_the_limit_is_no_hang_while_it_moves(tmp_path: Path):
    """Eight seconds for four micro-batches of two seconds, in an optimizer step with a limit of five."""
    run = run_dir(tmp_path, epochs=1.0, global_size=8, per_device=1)
    job = start(run, "slow_micro_batches", step=3)

    assert job.wait().codes == (0, 0)
    assert [event for event in events.read(run.events) if event["event"] == "hang"] == []


@pytest.mark.train
@pytest.mark.slow
def test_a_machine_that_slept_has_not_hung(tmp_path: Path):
    """Ranks and monitor stood still together for longer than the limit: that time counts for nobody."""
    run = run_dir(tmp_path)
    job = trained.start(run, ranks=2)
    everyone = stopped(run, job)
    time.sleep(LIMIT_S + 3)
    send(everyone, signal.SIGCONT)
    before = last_step(run)
    wait_until(lambda: last_step(run) > before + 3)
    run.stop_request.touch()

    assert job.wait().codes == (85, 85)
    assert [event for event in events.read(run.events) if event["event"] == "hang"] == []


@pytest.mark.train
@pytest.mark.slow
def test_a_paused_attempt_that_wakes_up_beside_a_newer_one_is_ended(tmp_path: Path):
    """It may not go on: the newer attempt writes to the same directory."""
    run = run_dir(tmp_path)
    job = trained.start(run, ranks=2)
    everyone = stopped(run, job)
    run.attempt(2).mkdir()
    time.sleep(2)
    send(everyone, signal.SIGCONT)

    assert job.wait().codes == (-9, -9)
    assert checkpoints.folders(run) == ()
    wait_until(lambda: not monitors(run), 10)


@pytest.mark.train
@pytest.mark.slow
def test_the_monitor_ends_with_a_run_that_ends_well(tmp_path: Path):
    run = run_dir(tmp_path, epochs=1.0)
    trained.train(run, ranks=2)

    wait_until(lambda: not monitors(run), 10)
