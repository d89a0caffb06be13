"""What became of the jobs of runs: squeue, then sacct, then what the runs' own files say."""

from __future__ import annotations

import contextlib
import getpass
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from launcher.errors import EnvironmentFault
from launcher.executors.slurm import client
from launcher.runs import submissions
from launcher.runs.paths import RunDir
from launcher.runs.submissions import Submission

_OVER = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT", "REVOKED",
     "REFUSED", "NOT_NEEDED", "UNKNOWN"}
)  # fmt: skip
"""SLURM's words, and ours for a job that it did not take, that had nothing left to do, or that it has forgotten."""
_WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"})
_FORMAT = "%i|%T|%r|%S|%N|%L|%k"
_LOOK_S = 6.0
"""For one command; both together must not keep a person waiting when the controller is down."""


@dataclass(frozen=True)
class Seen:
    """A job as SLURM sees it now."""

    job_id: str
    state: str
    """SLURM's word: PENDING, RUNNING, COMPLETING, FAILED …; UNKNOWN where it has forgotten the job."""
    reason: str = ""
    """SLURM's word on why it waits or how it ended."""
    starts: float | None = None
    """When it started, or is expected to, in Unix seconds; None where SLURM does not say."""
    nodes: str = ""
    seconds_left: int | None = None
    """Until its time limit, while it runs."""

    @property
    def over(self) -> bool:
        """It will not run again."""
        return self.state in _OVER

    @property
    def waits(self) -> bool:
        """It is in the queue, for the first time or again."""
        return self.state in _WAITING

    @property
    def active(self) -> bool:
        """It has nodes, be it that they start up or that it leaves them."""
        return not (self.over or self.waits)


@dataclass(frozen=True)
class Survey:
    """What SLURM said at one moment about the jobs it was asked about, by id."""

    jobs: Mapping[str, Seen] = field(default_factory=dict)
    away: str | None = None
    """Why it said nothing."""


def survey(run_dirs: Iterable[RunDir]) -> Survey:
    """How the jobs of several runs stand, asked for at once. A run that is done is not asked about."""
    asked = [each for run_dir in run_dirs if not run_dir.done.exists() for each in submissions.last_chain(run_dir)]
    try:
        return Survey(seen(asked))
    except (client.Unreachable, EnvironmentFault) as error:
        return Survey(away=error.message)


def seen(asked: Iterable[Submission]) -> dict[str, Seen]:
    """How the jobs of these submissions stand, by id; what was seen to have ended, and is forgotten since, stays that.

    Raises:
        Unreachable: the controller does not answer.
        EnvironmentFault: this machine has no squeue.
    """
    known = {each.job_id: each for each in asked if each.job_id}
    if not known:
        return {}
    found = _queue(known)
    ended = {job_id: Seen(job_id, each.over) for job_id, each in known.items() if each.over}
    missing = [job_id for job_id in known if job_id not in found and job_id not in ended]
    return {job_id: Seen(job_id, "UNKNOWN") for job_id in missing} | ended | _accounted(missing) | found


def settle(*run_dirs: RunDir) -> dict[str, Seen]:
    """Note which jobs of runs have ended, and the id of one whose answer was lost. Returns those that have not, by id.

    Raises:
        Unreachable: the controller does not answer, so nobody can tell.
    """
    alive: dict[str, tuple[RunDir, Submission]] = {}
    for run_dir in run_dirs:
        for each in submissions.alive(run_dir):
            if each.job_id is None:
                known = find(each)
                submissions.put(run_dir, replace(each, job_id=known, over=None if known else "REFUSED"))
        alive |= {each.job_id: (run_dir, each) for each in submissions.alive(run_dir) if each.job_id}
    stand = seen(each for _, each in alive.values())
    for job_id, job in stand.items():
        if job.over:
            run_dir, each = alive[job_id]
            submissions.ended(run_dir, each, job.state)
    return {job_id: job for job_id, job in stand.items() if not job.over}


def find(asked: Submission) -> str | None:
    """Id of the job with this submission's comment, `ARRAY_INDEX` of an array's element; None where SLURM has no such job.

    Raises:
        Unreachable: the controller stays away; the job may be there.
    """
    argv = ("squeue", "-h", "-a", "-r", "-t", "all", "-u", getpass.getuser(), "-o", "%i|%k")
    answer = client.patiently(lambda: client.call(*argv, timeout_s=_LOOK_S))
    rows = (line.partition("|") for line in answer.out.splitlines())
    found = (job_id for job_id, _, comment in rows if comment.strip() == f"launcher:{asked.key}")
    return next((each for each in found if asked.index is None or each.endswith(f"_{asked.index}")), None)


def _queue(known: Mapping[str, Submission]) -> dict[str, Seen]:
    """What the controller remembers. A job of the same number with another comment is another cluster's."""
    rows = _squeue(_arrays(known))
    told = [row.split("|", 6) for row in rows if row.count("|") >= 6]
    return {r[0]: _row(r) for r in told if r[0] in known and r[6].strip() == f"launcher:{known[r[0]].key}"}


def _squeue(ids: Sequence[str]) -> list[str]:
    """Squeue fails where it has forgotten a job that it is asked about alone; some versions, where it is one of several."""
    answer = client.call("squeue", "-h", "-a", "-r", "-t", "all", "-j", ",".join(ids), "-o", _FORMAT, timeout_s=_LOOK_S)
    if answer.code and len(ids) > 1:
        return [row for each in ids for row in _squeue([each])]
    return answer.out.splitlines()


def _arrays(ids: Iterable[str]) -> list[str]:
    """Jobs to ask about: an array instead of each of its elements."""
    return list(dict.fromkeys(each.partition("_")[0] for each in ids))


def _row(values: Sequence[str]) -> Seen:
    job_id, state, reason, starts, nodes, left, _ = values
    running = client.seconds(left) if state == "RUNNING" else None
    return Seen(job_id, state, _said(reason), _time(starts), _said(nodes), running)


def _accounted(ids: Sequence[str]) -> dict[str, Seen]:
    """By sacct, where the site has it; lines of steps are not asked for."""
    if not ids:
        return {}
    with contextlib.suppress(EnvironmentFault, client.Unreachable):
        argv = ("sacct", "-n", "-X", "-P", "-j", ",".join(_arrays(ids)), "-o", "JobID,State,NodeList")
        rows = [line.split("|") for line in client.call(*argv, timeout_s=_LOOK_S).out.splitlines()]
        known = [row for row in rows if len(row) == 3 and row[0] in ids]
        return {row[0]: Seen(row[0], re.split(r"[ +]", row[1])[0], nodes=_said(row[2])) for row in known}
    return {}


def _said(value: str) -> str:
    return "" if value in ("N/A", "(null)", "None", "None assigned", "NOT_SET", "INVALID") else value


def _time(value: str) -> float | None:
    """SLURM's times are this machine's."""
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        return None
