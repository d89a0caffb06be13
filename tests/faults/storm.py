"""Kill storms on `launcher`: seeded SIGKILLs until the run is done, and one at each file-system operation of a save."""

from __future__ import annotations

import functools
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from launcher.runs import attempts, checkpoints, events
from launcher.runs.paths import RunDir
from tests.faults.bed import Bed, Case, bed, said, start
from tests.faults.outcome import Outcome
from tests.faults.strike import Aim, draw, left_over, strike
from tests.support import trained

ATTEMPT_S = {1: 1.2, 2: 1.8}
"""Ranks → about how long an attempt takes to load, resume and train some steps."""
_OPERATIONS = {1: 130, 2: 150}
"""Ranks → operations of rank 0 in an attempt of three saves."""
_OPERATIONS_OTHER = 25
_MOST_ATTEMPTS = 200


def storm(cases: tuple[Case, ...], seed: int, trials: range) -> Outcome:
    """Kill runs again and again, each until it is done, for this many kills."""
    outcome, random = Outcome(), Random(f"{seed}-{trials.start}")
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        while outcome.trials < len(trials):
            case = cases[outcome.counts["runs finished"] % len(cases)]
            run = Run(bed(case), Path(folder) / "run", f"seed {seed}, part {trials.start}, {case}", outcome)
            _storm_one(run, random, len(trials))
            shutil.rmtree(run.dir.root)
    return outcome


def _storm_one(run: Run, random: Random, kills: int) -> None:
    for _ in range(_MOST_ATTEMPTS):
        aim = _draw(random, run.bed) if run.outcome.trials < kills else None
        if run.attempt(aim):
            return
    run.fail("did not finish")


def _draw(random: Random, made: Bed) -> Aim:
    ranks = made.ranks
    aim = draw(random, ranks, save_s=made.save_s, attempt_s=ATTEMPT_S[ranks], operations=_OPERATIONS[ranks])
    if aim.kind == "operation" and aim.victim:
        return Aim("operation", 1 + aim.number % _OPERATIONS_OTHER, 0.0, aim.victim)
    return aim


def each_operation(case: Case, seed: int, trials: range) -> Outcome:
    """Resume, save once with an old checkpoint to let go, and finish; killed at one operation, then started again.

    Trial N kills the N-th rank and operation of a shuffled list, so that as many trials as there are pairs try each once.
    """
    outcome, made = Outcome(), bed(case)
    pairs = _operations(case)
    order = Random(seed).sample(range(len(pairs)), len(pairs))
    outcome.see("operations", len(pairs))
    for trial in trials:
        victim, number, what = pairs[order[trial % len(order)]]
        with tempfile.TemporaryDirectory(prefix="storm-") as folder:
            last = max(made.steps)
            directory = made.stopped_at(Path(folder) / "run", (last - 2, last - 1))
            run = Run(made, Path(folder) / "run", f"{case}, at {what}", outcome, directory)
            killed = not run.attempt(Aim("operation", number, 0.0, victim if made.ranks > 1 else None))
            if killed and not run.attempt(None):
                run.fail("did not finish after the kill")
    return outcome


def operations(case: Case) -> int:
    """How many operations `each_operation` kills at."""
    return len(_operations(case))


@functools.cache
def _operations(case: Case) -> tuple[tuple[int, int, str], ...]:
    """(rank, number, what) of each operation of an undisturbed attempt."""
    made, found = bed(case), []
    for victim in range(made.ranks):
        with tempfile.TemporaryDirectory(prefix="storm-") as folder:
            last = max(made.steps)
            run = made.stopped_at(Path(folder) / "run", (last - 2, last - 1))
            trace = Path(folder) / "trace"
            assert set(start(run, 2, made.ranks, victim=victim, trace=str(trace)).wait().codes) == {0}
            lines = trace.read_text().splitlines()
        found += [
            (victim, number, f"operation {number} of rank {victim}: {what}") for number, what in enumerate(lines, 1)
        ]
    return tuple(found)


@dataclass
class Run:
    """One run under attack. Its promises are checked after each attempt."""

    bed: Bed
    root: Path
    name: str
    outcome: Outcome
    directory: RunDir | None = None
    broken: bool = False

    def __post_init__(self) -> None:
        self.dir = self.directory or self.bed.fresh(self.root)

    def attempt(self, aim: Aim | None) -> bool:
        """One attempt, killed at `aim`; True when the run is over: finished, or a promise is broken."""
        number = max(attempts.numbers(self.dir), default=0) + 1
        before, resumable = len(events.read(self.dir.events)), self._resumable()
        at = {"victim": aim.victim or 0, "operation": aim.number} if aim and aim.kind == "operation" else {}
        job = start(self.dir, number, self.bed.ranks, **at)
        staging = self.dir.staging / f"attempt-{number}"
        if aim is None:
            result, hit = job.wait(120), False
        else:
            result, hit = strike(job, aim, Saves(staging).begun)
        happened = events.read(self.dir.events)[before:]
        if hit:
            self.outcome.trials += 1
            self.outcome.counts[self._place(happened)] += 1
        self._check_resumed(happened, resumable)
        if wrong := self.bed.unlike(happened):
            self.fail(f"attempt {number} went another way at {wrong}")
        if hit:
            self._check_kept(happened, aim)
        elif set(result.codes) == {0}:
            self._check_result()
        else:
            self.fail(f"attempt {number} ended by itself: {result.codes}; {said(self.dir, number, self.bed.ranks)}")
        if stray := left_over(self.dir.root):
            self.fail(f"attempt {number} left processes {stray}")
        return self.broken or not hit

    def _place(self, happened: list[dict[str, Any]]) -> str:
        """Where a kill fell, by what is left of the attempt."""
        told = [event["event"] for event in happened]
        if told.count("save") > told.count("commit") + told.count("save_failed"):
            return "inside a save"
        if "commit" in told and any(path.name.startswith(("checkpoint-", "old-")) for path in self._being_deleted()):
            return "letting an old checkpoint go"
        if max(self.bed.steps) in [event["step"] for event in happened if event["event"] == "step"]:
            return "after the last step"
        return "between steps" if "step" in told else "before the first step"

    def _being_deleted(self) -> list[Path]:
        return [*self.dir.checkpoints.glob(".trash/*"), *self.dir.staging.glob("*/old-*")]

    def fail(self, text: str) -> None:
        """A promise is broken; the run ends here."""
        self.broken = True
        self.outcome.fail(f"{self.name}: {text}")

    def _resumable(self) -> int:
        newest = checkpoints.newest(self.dir).checkpoint
        return newest.step if newest else 0

    def _check_resumed(self, happened: list[dict[str, Any]], resumable: int) -> None:
        begun = next((event for event in happened if event["event"] == "start"), None)
        if begun and begun["step"] != resumable:
            self.fail(f"started from step {begun['step']}, the newest whole checkpoint is {resumable}")

    def _check_kept(self, happened: list[dict[str, Any]], aim: Aim | None) -> None:
        """What was committed is there, and no more is lost than what was trained since."""
        committed = max((e["step"] for e in events.read(self.dir.events) if e["event"] == "commit"), default=0)
        kept = self._resumable()
        done = max((event["step"] for event in happened if event["event"] == "step"), default=kept)
        if kept < committed:
            choice = checkpoints.newest(self.dir)
            self.fail(f"killed {aim}: {committed} was committed, {kept} is the newest whole one: {choice.passed_over}")
        if done - kept > done - committed + 1:
            self.fail(f"killed {aim}: {done - kept} steps lost, {done - committed} since the commit")
        self.outcome.see("most steps lost", done - kept)

    def _check_result(self) -> None:
        self.outcome.counts["runs finished"] += 1
        if trained.weights(self.dir.model) != self.bed.weights:
            self.fail("the weights differ from those of the undisturbed run")
        elif trained.losses(self.dir) != [loss for _, (loss, _) in sorted(self.bed.steps.items())]:
            self.fail("the losses differ from those of the undisturbed run")


class Saves:
    """How many checkpoints an attempt has begun to write."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: set[str] = set()

    def begun(self) -> int:
        try:
            self._seen |= {name for name in self._folder_names() if name.startswith("checkpoint-")}
        except OSError:
            return len(self._seen)
        return len(self._seen)

    def _folder_names(self) -> list[str]:
        return [path.name for path in self._folder.iterdir()]
