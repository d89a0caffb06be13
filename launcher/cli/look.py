"""Runs at one moment, by their files and, for those that were submitted, by what SLURM says of their jobs."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from launcher.runs import attempts, events, grace, state, submissions
from launcher.runs.attempts import Attempt
from launcher.runs.goodput import Goodput, measure
from launcher.runs.grace import Shortfall
from launcher.runs.measures import Measures, measures
from launcher.runs.paths import RunDir
from launcher.runs.progress import Progress, progress
from launcher.runs.state import State

if TYPE_CHECKING:
    from launcher.executors.slurm.standing import Standing


@dataclass(frozen=True)
class Look:
    """One run at one moment."""

    run_dir: RunDir
    state: State
    seen: Progress
    attempts: tuple[Attempt, ...]
    now: float
    goodput: Goodput = field(default_factory=Goodput)
    slurm: Standing | None = None
    """Its jobs; None for a run that was never submitted."""
    shortfall: Shortfall | None = None
    """The newest attempt that had too little time to save, where one had."""
    measures: Measures | None = None
    """What its steps take; None before the first."""

    @property
    def where(self) -> str:
        """The site and the job; else this machine, or the one the last attempt ran on."""
        if self.slurm and self.slurm.jobs:
            job = (self.slurm.now or self.slurm.jobs[-1]).asked
            return f"{job.where} {job.job_id}" if job.job_id and self.slurm.now else job.where
        host = self.attempts[-1].host if self.attempts else platform.node()
        return "local" if host == platform.node() else host

    @property
    def seconds_left(self) -> float | None:
        """Time to the last step, while it runs."""
        return self.seen.seconds_left if self.state.name == "running" else None

    @property
    def away(self) -> str | None:
        """Why SLURM could not be asked; None where it was, and where nothing is to be asked."""
        return self.slurm.away if self.slurm else None


def look(run_dir: RunDir) -> Look:
    """Read a run's files, and ask SLURM about its jobs."""
    return looks([run_dir])[0]


def looks(run_dirs: Iterable[RunDir]) -> list[Look]:
    """The same for several runs: SLURM is asked once for all of them, and not at all where none was submitted."""
    listed = list(run_dirs)
    submitted = [each for each in listed if submissions.read(each)]
    if not submitted:
        return [_look(each) for each in listed]
    from launcher.executors.slurm.standing import standing
    from launcher.executors.slurm.tracker import survey

    said = survey(submitted)
    stand = {each.root: standing(each, said) for each in submitted}
    return [_look(each, stand.get(each.root)) for each in listed]


def _look(run_dir: RunDir, slurm: Standing | None = None) -> Look:
    found = (attempts.read(run_dir, number) for number in attempts.numbers(run_dir))
    tried = tuple(each for each in found if each)
    said = events.read(run_dir.events)
    stands = slurm.state if slurm else state.derive(run_dir)
    short = next(reversed(grace.shortfalls(said, tried, over=stands.name != "running")), None)
    return Look(run_dir, stands, progress(said), tried, time.time(), measure(said, tried), slurm, short, measures(said))
