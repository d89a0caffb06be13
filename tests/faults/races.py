"""Ten processes start one run directory at the same time: one of them gets it."""

from __future__ import annotations

import multiprocessing
import tempfile
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from launcher.runs import attempts, lock
from launcher.runs.paths import RunDir
from tests.faults.outcome import Outcome

RACERS = 10
_WAIT_S = 60.0


def starts(seed: int, trials: range) -> Outcome:
    """One race per trial: ten processes take the lock and begin an attempt; the winner lets go when all have tried.

    The seed draws nothing here; the kernel's scheduler does.
    """
    outcome, context = Outcome(), multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory(prefix="races-") as folder:
        run = RunDir(Path(folder))
        gate, reports = context.Barrier(RACERS + 1), context.SimpleQueue()
        racers = [context.Process(target=_race, args=(run, gate, reports, len(trials))) for _ in range(RACERS)]
        for racer in racers:
            racer.start()
        for number, trial in enumerate(trials, 1):
            gate.wait(_WAIT_S)  # off they go
            won = [attempt for attempt in (reports.get() for _ in range(RACERS)) if attempt is not None]
            gate.wait(_WAIT_S)  # the winner lets go
            outcome.trials += 1
            if won != [number] or attempts.numbers(run) != tuple(range(1, number + 1)):
                outcome.fail(f"race {trial}: attempts {won} were begun, {attempts.numbers(run)} are there")
        for racer in racers:
            racer.join(_WAIT_S)
    outcome.counts["one winner"] = outcome.trials - outcome.failed
    return outcome


def _race(run: RunDir, gate: Barrier, reports: Any, rounds: int) -> None:
    for _ in range(rounds):
        gate.wait(_WAIT_S)
        with lock.hold(run) as taken:
            reports.put(attempts.begin(run).number if taken else None)
            gate.wait(_WAIT_S)
