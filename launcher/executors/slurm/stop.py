"""A person's wish to stop a run that was submitted: what runs saves and leaves, what waits goes out of the queue."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Mapping
from dataclasses import dataclass

from launcher.errors import Exit
from launcher.executors.slurm import client, tracker
from launcher.runs import attempts, lock, names, stopping, submissions
from launcher.runs.paths import RunDir

_BETWEEN_TURNS = ("COMPLETING", "REQUEUED")


@dataclass(frozen=True)
class Asked:
    """What a wish met, as ids of jobs."""

    running: tuple[str, ...] = ()
    """Those that have nodes; they find the wish by themselves."""
    cancelled: tuple[str, ...] = ()
    turning: bool = False
    """One of them is about to be queued again, or to end: ask again in a second."""


def stop(run_dir: RunDir) -> Asked:
    """Leave the wish, and cancel the jobs that wait; may be called again until all have left.

    Raises:
        Unreachable: the controller does not answer. The wish stands: a job that starts meanwhile leaves at once.
        SubmissionError: SLURM refuses to cancel.
    """
    with submissions.hold(run_dir):
        try:
            left = tracker.settle(run_dir)
            if not left:
                return Asked()
            stopping.request(run_dir)
            _cancel(left)
            still = tracker.settle(run_dir)
            _keep_in_mind(run_dir, left)
        except client.Unreachable as error:
            stopping.request(run_dir)
            raise _not_cancelled(run_dir, error) from None
    turning = any(each.waits or _turns(run_dir, each) for each in still.values())
    return Asked(tuple(still), tuple(each for each in left if each not in still), turning)


def was_cancelled(run_dir: RunDir, job_id: str) -> bool:
    """Whether a person has cancelled the turn before this job, where turns are queued up front: SLURM starts the next all the same."""
    listed = {each.job_id: each for each in submissions.read(run_dir) if each.job_id}
    own = listed.get(job_id)
    before = [listed[each] for each in own.after if each in listed] if own and own.turn else []
    with contextlib.suppress(client.Unreachable):
        return any(each.state == "CANCELLED" for each in tracker.seen(before).values())
    return False


def _cancel(left: Mapping[str, tracker.Seen]) -> None:
    """What waits, of what was there a moment ago. Of an array's element, `scancel --state` would take all that wait with it."""
    client.cancel([each for each in left if "_" not in each], waiting=True)
    client.cancel([job_id for job_id, each in left.items() if "_" in job_id and each.waits])


def _keep_in_mind(run_dir: RunDir, cancelled: Container[str]) -> None:
    """An array's element that leaves the queue before it has a record of its own leaves none."""
    for each in submissions.read(run_dir):
        if each.job_id in cancelled and each.over == "UNKNOWN":
            submissions.ended(run_dir, each, "CANCELLED")


def _turns(run_dir: RunDir, seen: tracker.Seen) -> bool:
    """Its job may be queued again at any moment: SLURM is ending it, or the launcher in it is about to ask for that."""
    if seen.state in _BETWEEN_TURNS:
        return True
    last = attempts.read(run_dir, max(attempts.numbers(run_dir), default=0))
    mine = last is not None and last.turn is not None and last.turn.job == seen.job_id
    return (
        mine
        and last is not None
        and last.code in (Exit.SAVED_AND_STOPPED, Exit.INFRASTRUCTURE)
        and not lock.held(run_dir)
    )


def _not_cancelled(run_dir: RunDir, error: client.Unreachable) -> client.Unreachable:
    ids = " ".join(each.job_id for each in submissions.alive(run_dir) if each.job_id)
    return client.Unreachable(
        f"{error.message}: the wish to stop is left in {names.short(run_dir.stop_request)}, a job that runs saves and leaves; "
        f"what waits in the queue could not be cancelled",
        hint=f"when SLURM answers again: `launcher stop {names.typed(run_dir)}`, or `scancel {ids}`",
    )
