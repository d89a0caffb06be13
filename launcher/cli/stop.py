"""`launcher stop RUN`: save at the next step boundary and leave; what waits in a queue leaves the queue."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cli import screens
from launcher.cli.look import look
from launcher.errors import EnvironmentFault, Exit
from launcher.runs import attempts, lock, names, stopping, submissions
from launcher.runs.paths import RunDir

if TYPE_CHECKING:
    from launcher.executors.slurm.stop import Asked

_POLL_S = 0.1
_POLL_SLURM_S = 2.0
_BETWEEN_TURNS_S = 60.0
"""SLURM takes no longer to end a turn and queue the job again: until then it can be neither asked nor cancelled."""


def run(args: Namespace) -> int:
    """Leave the request; with `--wait SECONDS`, wait until the run has saved and left."""
    run_dir = names.find(Path(args.runs), args.run)
    if submissions.alive(run_dir):
        return _jobs(run_dir, args.wait)
    if not lock.held(run_dir):
        found = look(run_dir).state
        where = found.reason if found.name == "queued" else found.name
        print(_between_turns(run_dir) or f"{run_dir.name} is not running: {where}")
        return Exit.DONE
    stopping.request(run_dir)
    _wait(run_dir, args.wait, lambda: lock.held(run_dir), _POLL_S)
    print(screens.final(look(run_dir)) if args.wait else f"{run_dir.name} saves at its next step and leaves")
    return Exit.DONE


def _between_turns(run_dir: RunDir) -> str | None:
    """Leave the wish for the next turn of a job that nobody has noted; None where no turn is to be expected."""
    last = attempts.read(run_dir, max(attempts.numbers(run_dir), default=0))
    if last is None or last.turn is None or last.left_for is None:
        return None
    stopping.request(run_dir)
    job = last.turn.job
    return (
        f"{run_dir.name} does not start again; `scancel {job}` takes its job out of the queue, where it still is there"
    )


def _jobs(run_dir: RunDir, wait_s: float) -> int:
    """Also between two turns of a job: there it is asked again until it waits, and can be cancelled, or has ended."""
    from launcher.executors.slurm.stop import stop

    asked = stop(run_dir)
    cancelled = asked.cancelled
    until = time.monotonic() + _BETWEEN_TURNS_S
    while asked.turning and time.monotonic() < until:
        time.sleep(_POLL_SLURM_S / 2)
        asked = stop(run_dir)
        cancelled += asked.cancelled
    if not asked.running and not cancelled and not lock.held(run_dir):
        print(f"{run_dir.name} is not running: {look(run_dir).state.name}")
        return Exit.DONE
    if lock.held(run_dir):
        stopping.request(run_dir)  # by a launcher outside its jobs
    _wait(run_dir, wait_s, lambda: lock.held(run_dir) or bool(stop(run_dir).running), _POLL_SLURM_S)
    print(screens.final(look(run_dir)) if wait_s else _told(run_dir, asked, cancelled))
    return Exit.DONE


def _wait(run_dir: RunDir, seconds: float, goes_on: Callable[[], bool], poll_s: float) -> None:
    deadline = time.monotonic() + seconds
    while seconds and goes_on():
        if time.monotonic() > deadline:
            raise EnvironmentFault(
                f"{run_dir.name} is still running after {seconds:g} s; the request stands",
                hint=f"`launcher logs {names.typed(run_dir)} -f` shows what it does",
            )
        time.sleep(poll_s)


def _told(run_dir: RunDir, asked: Asked, cancelled: tuple[str, ...]) -> str:
    jobs = f"job{'s' if len(cancelled) > 1 else ''} {', '.join(cancelled)}"
    if not asked.running and not lock.held(run_dir):
        return f"{run_dir.name} is out of the queue: {jobs} cancelled; `launcher run {names.typed(run_dir)}` goes on"
    behind = f"; {jobs} behind it cancelled" if cancelled else ""
    return f"{run_dir.name} saves at its next step and leaves{behind}"
