"""Signals to the ranks of a run: one common step is saved, all leave with 85, and the next start ends the run exactly."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from launcher.errors import Exit
from launcher.runs import checkpoints, events
from launcher.runs.paths import RunDir
from tests.faults.bed import Bed, bed, said, start
from tests.faults.outcome import Outcome
from tests.faults.storm import Saves
from tests.faults.strike import alive, left_over, send
from tests.support import trained, warm

_NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
_STEPS, _SAVE_STEPS = 40, 5
_LEAVE_S = 60.0
_SKEW_S = 10.0
EVAL_S = 0.3
"""How long evaluations are held for signals to come in."""


def storm(seed: int, trials: range) -> Outcome:
    """One request to stop per trial: kinds and numbers of ranks take turns."""
    outcome = Outcome()
    for trial in trials:
        kind = tuple(_KINDS)[trial % len(_KINDS)]
        case = "full" if trial // len(_KINDS) % 3 == 2 else "full x2"
        made = bed(case, steps=_STEPS, save_steps=_SAVE_STEPS, evaluated=kind == "inside an eval")
        redraw = 0
        while not _trial(
            made, kind, Random(f"{seed}-{trial}-{redraw}"), f"seed {seed}, trial {trial}, {case}", outcome
        ):
            redraw += 1
            outcome.counts["over before the signal, drawn again"] += 1
        outcome.trials += 1
        outcome.counts[kind] += 1
    return outcome


def _trial(made: Bed, kind: str, random: Random, name: str, outcome: Outcome) -> bool:
    with tempfile.TemporaryDirectory(prefix="signals-") as folder:
        run, number = made.fresh(Path(folder) / "run"), random.choice(_NUMBERS)
        job = start(run, 1, made.ranks, hold_eval_s=EVAL_S if kind == "inside an eval" else 0.0)
        _wait(lambda: all(_listens(pid) for pid in job.pids), job)
        _KINDS[kind](job, run, number, random)
        result = job.wait(_LEAVE_S)
        if set(result.codes) == {0}:
            return False
        if wrong := _wrong(made, run, result, kind) or _goes_on_wrong(made, run):
            outcome.fail(f"{name}, {number.name} {kind}: {wrong}")
        return True


def _one(job: warm.Job, run: RunDir, number: signal.Signals, random: Random) -> None:
    _between_steps(job, run, random)
    send((random.choice(job.pids),), number)


def _skewed(job: warm.Job, run: RunDir, number: signal.Signals, random: Random) -> None:
    _between_steps(job, run, random)
    skew = random.choice((random.uniform(0, 0.05), random.uniform(0, 0.5), random.uniform(0, _SKEW_S)))
    for pid in random.sample(job.pids, len(job.pids)):
        send((pid,), number)
        _pause(skew, job)


def _between_steps(job: warm.Job, run: RunDir, random: Random) -> None:
    _wait(lambda: any(event["event"] == "step" for event in events.read(run.events)), job)
    _pause(random.uniform(0, 0.4), job)


def _in_save(job: warm.Job, run: RunDir, number: signal.Signals, random: Random) -> None:
    saves, wanted = Saves(run.staging / "attempt-1"), random.randint(1, 6)
    _wait(lambda: saves.begun() >= wanted, job)
    _pause(random.uniform(0, 0.03), job)
    send((random.choice(job.pids),), number)


def _in_eval(job: warm.Job, run: RunDir, number: signal.Signals, random: Random) -> None:
    wanted = run.root / f"evaluating-{random.randint(0, 6) * _SAVE_STEPS}"
    _wait(wanted.exists, job)
    _pause(random.uniform(0, EVAL_S), job)
    send((random.choice(job.pids),), number)


def _before_first(job: warm.Job, run: RunDir, number: signal.Signals, random: Random) -> None:
    _pause(random.uniform(0.01, 0.15), job)
    send(job.pids if random.random() < 0.5 else (random.choice(job.pids),), number)


_KINDS: dict[str, Callable[[warm.Job, RunDir, signal.Signals, Random], None]] = {
    "to one rank": _one,
    "to all, 0 to 10 s apart": _skewed,
    "inside a save": _in_save,
    "inside an eval": _in_eval,
    "before the first step": _before_first,
}


def _listens(pid: int) -> bool:
    """The process has a handler for SIGTERM: from here on a signal is a request."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return all(caught >> (number - 1) & 1 for number in _NUMBERS)


def _pause(seconds: float, job: warm.Job) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(alive(pid) for pid in job.pids):
        time.sleep(0.002)


def _wait(condition: Callable[[], bool], job: warm.Job) -> None:
    while not condition() and any(alive(pid) for pid in job.pids):
        time.sleep(0.001)


def _wrong(made: Bed, run: RunDir, result: warm.Result, kind: str) -> str | None:
    """What is wrong with how the ranks left."""
    if set(result.codes) != {int(Exit.SAVED_AND_STOPPED)}:
        return f"the ranks ended with {result.codes}; {said(run, 1, made.ranks)}"
    happened = events.read(run.events)
    steps = [event["step"] for event in happened if event["event"] == "step"]
    stops = [event["step"] or 0 for event in happened if event["event"] == "stop"]
    newest = checkpoints.newest(run).checkpoint
    saved, done = newest.step if newest else 0, max(steps, default=0)
    if len(stops) != 1 or not stops[0] == saved == done:
        return f"stopped at {stops}, {saved} is saved, {done} was the last step"
    if kind == "before the first step" and done:
        return f"{done} steps were trained"
    if stray := left_over(run.root):
        return f"processes {stray} are left"
    return made.unlike(happened)


def _goes_on_wrong(made: Bed, run: RunDir) -> str | None:
    """What is wrong with the next start."""
    if set(start(run, 2, made.ranks).wait().codes) != {0}:
        return f"the next start failed: {said(run, 2, made.ranks)}"
    if trained.weights(run.model) != made.weights:
        return "after the next start, the weights differ from those of the undisturbed run"
    return made.unlike(events.read(run.events))
