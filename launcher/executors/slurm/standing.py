"""Where a run stands by SLURM and by its own files together: SLURM knows the queue and sudden ends, the files know the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.errors import Exit
from launcher.executors.slurm.tracker import Seen, Survey
from launcher.render import slurm_words as words
from launcher.runs import attempts, checkpoints, names, state, stopping, submissions
from launcher.runs.attempts import Attempt
from launcher.runs.paths import RunDir
from launcher.runs.state import State
from launcher.runs.submissions import Submission

_CLOCKS_S = 30.0
"""The controller's clock and a node's may differ by so much."""
_LEFT_TO_GO_ON = (Exit.SAVED_AND_STOPPED, Exit.INFRASTRUCTURE)
_NODES_ARE_NOT_READY = ("CONFIGURING", "POWERING_UP_NODE")
_ON_HOLD = ("SUSPENDED", "STOPPED")


@dataclass(frozen=True)
class RunJob:
    """A job of a run: what was submitted, and how SLURM sees it; `seen` is None while that is not known."""

    asked: Submission
    seen: Seen | None = None


@dataclass(frozen=True)
class Standing:
    """A run and its jobs at one moment."""

    state: State
    jobs: tuple[RunJob, ...]
    """Those that were submitted together last, in order."""
    now: RunJob | None = None
    """The one that runs, or is next to start."""
    away: str | None = None
    """Why SLURM was not heard."""
    todo: tuple[str, ...] = ()
    """What to type, where that follows from SLURM alone."""


def standing(run_dir: RunDir, survey: Survey) -> Standing:
    """Where a run stands that was submitted."""
    jobs = tuple(RunJob(each, _seen(each, survey)) for each in submissions.last_chain(run_dir))
    said, last = state.by_files(run_dir), _last(run_dir)
    active = next((each for each in jobs if each.seen and each.seen.active), None)
    if said.name == "done" or (said.name == "running" and active is None):
        return Standing(said, jobs, away=survey.away)
    if active and active.seen:
        return Standing(_running(run_dir, active, active.seen, last, said), jobs, active)
    if survey.away and any(each.asked.alive for each in jobs):
        return _unheard(jobs, last, said, survey.away)
    waiting = [each for each in jobs if each.seen and each.seen.waits]
    if waiting:
        return _queued(run_dir, waiting, jobs)
    answered = tuple(each for each in jobs if each.asked.job_id)  # others were cut off before SLURM had the job
    return _ended(run_dir, answered, last, said) if answered else Standing(said, ())


def _seen(asked: Submission, survey: Survey) -> Seen | None:
    if asked.over and (asked.job_id is None or survey.away):
        return Seen(asked.job_id or "", asked.over)
    return survey.jobs.get(asked.job_id or "")


def _last(run_dir: RunDir) -> Attempt | None:
    numbers = attempts.numbers(run_dir)
    return attempts.read(run_dir, numbers[-1]) if numbers else None


def _running(run_dir: RunDir, job: RunJob, seen: Seen, last: Attempt | None, said: State) -> State:
    """Its lock may look free from here: not every file system tells other machines of it."""
    if said.name == "running":
        return said
    if seen.state in _NODES_ARE_NOT_READY:
        return State("running", "its nodes start up")
    if seen.state in _ON_HOLD:
        return State("running", "suspended by SLURM")
    if last is None or not _of(job, last) or last.started < (seen.starts or 0.0) - _CLOCKS_S:
        return State("running", "starting" if seen.state == "RUNNING" else "its job ends")
    if last.code is None:
        return State("running", "stopping" if run_dir.stop_request.exists() else None)
    return State("running", "its turn ends") if last.code in _LEFT_TO_GO_ON else said


def _queued(run_dir: RunDir, waiting: Sequence[RunJob], jobs: tuple[RunJob, ...]) -> Standing:
    """The first that waits for nodes; those behind it wait for it."""
    first = next((each for each in waiting if each.seen and each.seen.reason != "Dependency"), waiting[0])
    reason = first.seen.reason if first.seen else ""
    if reason == "DependencyNeverSatisfied":
        why = f"the job of `{first.asked.stage}` never starts: one before it has failed"
        name = names.typed(run_dir)
        failed = (f"launcher stop {name} (takes it out of the queue)", f"launcher run {name} (goes on)")
        return Standing(State("failed", why), jobs, first, todo=failed)
    todo: tuple[str, ...] = ()
    if words.held(reason):
        todo = (f"scontrol release {first.asked.job_id} (lets it go)",)
    return Standing(State("queued", reason or None), jobs, first, todo=todo)


def _unheard(jobs: tuple[RunJob, ...], last: Attempt | None, said: State, away: str) -> Standing:
    """Without SLURM: an attempt that nobody ended goes on, as far as can be seen from here."""
    alive = [each for each in jobs if each.asked.alive]
    now = next((each for each in alive if last and _of(each, last)), alive[0])
    if last and last.code is None and _of(now, last):
        return Standing(State("running", "by its files"), jobs, now, away)
    where = State("queued", "by its files") if now is alive[0] or said.name != "failed" else said
    return Standing(where, jobs, now, away)


def _ended(run_dir: RunDir, jobs: tuple[RunJob, ...], last: Attempt | None, said: State) -> Standing:
    """No job is left. What the run's last attempt says holds, where it lived to say it; else SLURM's word."""
    if last and last.started > jobs[-1].asked.asked and not any(_of(each, last) for each in jobs):
        return Standing(said, ())  # it went on elsewhere: on one machine, or by a script that was submitted by hand
    mine = [place for place, each in enumerate(jobs) if last and _of(each, last)]
    behind = jobs[mine[-1] if mine else 0 :]
    job = next((each for each in behind if each.seen and each.seen.state != "COMPLETED"), behind[-1])
    own = last if last and _of(job, last) else None
    seen = job.seen or Seen(job.asked.job_id or "", job.asked.over or "UNKNOWN")
    if own and seen.state != "CANCELLED" and (own.code is not None or said.name == "failed"):
        return Standing(said, jobs)
    if job.seen and seen.state == "COMPLETED" and mine:
        return Standing(said, jobs)
    if own is None and stopping.by_person(run_dir):  # its turn began when the wish was there already
        return Standing(_cancelled(run_dir, own, said), jobs)
    if seen.state == "CANCELLED" and seen.reason != "DependencyNeverSatisfied":
        return Standing(_cancelled(run_dir, own, said), jobs)
    name = names.typed(run_dir)
    todo = (f"launcher logs {name} --job", f"launcher run {name} (goes on)")
    number = f" (job {job.asked.job_id})" if job.asked.job_id else ""
    how = words.KILLED if own and seen.state == "FAILED" else words.end(seen.state, seen.reason)
    why = f"{job.asked.stage}: {how}{number}"
    return Standing(State("failed", why), jobs, todo=todo)


def _cancelled(run_dir: RunDir, own: Attempt | None, said: State) -> State:
    """By a person: with `launcher stop`, which leaves its wish, or with scancel."""
    who = "cancelled" if stopping.by_person(run_dir) else "cancelled with scancel"
    if own and said.name == "failed":
        return State("failed", f"{said.reason}; then {who}")
    step = max((step for step, _ in checkpoints.folders(run_dir)), default=None)
    saved = "nothing saved" if step is None else f"saved {step}"
    return State("stopped", f"{who}, {saved}" if own or step is not None else f"{who} before it started")


def _of(job: RunJob, attempt: Attempt) -> bool:
    return attempt.turn is not None and attempt.turn.job == job.asked.job_id
