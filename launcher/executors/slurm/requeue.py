"""Queueing the own job again, from inside it."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable

from launcher.errors import SubmissionError
from launcher.executors.slurm import bad_nodes, client
from launcher.executors.slurm.allocation import Allocation
from launcher.runs import stopping

_PATIENCE_S = 600.0
_SECONDS_UNTIL_ENDED = 120.0
_SECONDS_BEFORE_THE_LIMIT = 10.0


def again(host: Allocation, say: Callable[[str], None]) -> None:
    """Have SLURM queue this job again; returns only when that is not to be.

    A job that somebody has cancelled, or that SLURM is ending anyway, is left alone: SLURM queues what it preempts, and
    what loses a node, by itself. So is one that runs again already: SLURM had given up a node on which this process lived on.
    """
    state, restarts = _stands(host)
    if restarts != host.restarts:
        say("not queued again by itself: SLURM has done it already")
        return
    if state != "RUNNING":
        say(f"not queued again by itself: SLURM says {state}")
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it comes at once, and bad nodes have to be named behind it
    answer = client.patiently(lambda: client.call("scontrol", "requeue", host.job_id), seconds=_PATIENCE_S)
    if answer.code:
        say(f"SLURM does not queue it again: {answer.error}")
        return
    say("queued again")
    _keep_out(host, say)
    time.sleep(_SECONDS_UNTIL_ENDED)  # SLURM ends the job now; leaving by itself, it would count as finished


def before_the_limit(host: Allocation, say: Callable[[str], None]) -> None:
    """Queue the job again at the last moment, from a thread: what reaches its limit, SLURM ends for good."""
    if host.until is None:
        return
    left = host.until - time.time() - _SECONDS_BEFORE_THE_LIMIT

    def last_call() -> None:
        if stopping.by_person(host.run_dir):
            return
        say("the time is over and the ranks have not left: they go on from an older checkpoint")
        again(host, say)

    timer = threading.Timer(max(0.0, left), last_call)
    timer.daemon = True
    timer.start()


def _keep_out(host: Allocation, say: Callable[[str], None]) -> None:
    """Bad nodes, for the turn that comes: SLURM takes the option only of a job that waits, and it replaces the old one."""
    with contextlib.suppress(SubmissionError):
        names = bad_nodes.to_exclude([host.run_dir], host.partition, len(host.nodes))
        if names:
            before = (client.job(host.job_id) or {}).get("ExcNodeList", "(null)")
            listed = [*names, *([] if before == "(null)" else [before])]
            client.call("scontrol", "update", f"JobId={host.job_id}", f"ExcNodeList={','.join(listed)}")
            say(f"without {', '.join(names)}")


def _stands(host: Allocation) -> tuple[str, int]:
    """SLURM's word for the state of this job, and how often it was queued again."""
    ask = ("squeue", "-h", "-j", host.job_id, "-O", "State:20,RestartCnt:9")
    try:
        answer = client.patiently(lambda: client.call(*ask), seconds=_PATIENCE_S)
    except SubmissionError as error:
        return str(error), host.restarts
    state, _, restarts = answer.out.strip().partition(" ")
    return state or "UNKNOWN", int(restarts or host.restarts)
