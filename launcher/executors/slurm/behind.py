"""The jobs that wait behind the one that this process runs in, when it ends."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from launcher.errors import Exit, LauncherError
from launcher.executors.slurm import client
from launcher.executors.slurm.allocation import Allocation
from launcher.runs import state, stopping, submissions
from launcher.runs.paths import RunDir
from launcher.runs.submissions import Submission


def close(run_dir: RunDir, host: Allocation, code: Exit, *, failed: bool = False) -> None:
    """Jobs that wait for work which this one has done, or for turns that would not help, are of no use.

    This one is over, unless it left to go on: then only SLURM knows, which queues again what it preempts and what loses a node.
    """
    over = failed or code not in (Exit.SAVED_AND_STOPPED, Exit.INFRASTRUCTURE) or stopping.by_person(run_dir)
    with submissions.hold(run_dir):
        left, alive = state.left(run_dir), submissions.alive(run_dir)
        others = [each for each in alive if each.job_id not in (None, host.job_id)]
        idle = [each for each in others if failed or each.stage not in left]
        for each in alive:
            if each.job_id == host.job_id:
                if over:
                    submissions.ended(run_dir, each, "COMPLETED" if code == Exit.DONE else "FAILED")
                continue
            before = [one for one in idle if each not in idle and one.job_id in each.after]
            if before and not _moved_up(run_dir, host, each):
                idle = [one for one in idle if one not in before]  # they end by themselves when they start
        for each in idle:
            with contextlib.suppress(LauncherError):
                client.cancel([each.job_id or ""])
                submissions.ended(run_dir, each, "NOT_NEEDED")


def _moved_up(run_dir: RunDir, host: Allocation, job: Submission) -> bool:
    """Have a job wait for this one instead of one that is about to be cancelled, which would take it along."""
    with contextlib.suppress(LauncherError):
        answer = client.call("scontrol", "update", f"JobId={job.job_id}", f"Dependency=afterok:{host.job_id}")
        if answer.code == 0:
            submissions.put(run_dir, replace(job, after=(host.job_id,)))
            return True
    return False
