"""`jobs.json`: the jobs that were submitted for a run. Written before the scheduler is asked, so that no answer can get lost."""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from launcher.runs.files import read_json, write_json
from launcher.runs.paths import RunDir


@dataclass(frozen=True)
class Submission:
    """One job. `asked` is Unix time in seconds."""

    key: str
    """Ours; it stands in the job's comment, and tells after a lost answer whether the job is there."""
    stage: str
    asked: float
    where: str
    """`CLUSTER:QUEUE`."""
    turn: int = 0
    """Number of the job among those submitted up front for one stage, where jobs may not requeue themselves."""
    job_id: str | None = None
    """SLURM's; None until it has answered."""
    over: str | None = None
    """State in which it was last seen to have ended; None while it may be alive."""
    after: tuple[str, ...] = ()
    """Ids of the jobs that it waits for."""
    index: int | None = None
    """Its place in an array, whose elements have one key; None outside of one."""

    @property
    def alive(self) -> bool:
        """It may be queued or running."""
        return self.over is None


def new(stage: str, where: str, *, turn: int = 0, after: Iterable[str] = ()) -> Submission:
    """A job about to be submitted."""
    return Submission(uuid.uuid4().hex[:16], stage, round(time.time(), 3), where, turn=turn, after=tuple(after))


def read(run_dir: RunDir) -> tuple[Submission, ...]:
    """All that were submitted for this directory, in order. A copy has the file too, and none of the jobs."""
    noted = read_json(run_dir.submissions) or {}
    if noted.get("folder", _folder(run_dir)) != _folder(run_dir):
        return ()
    return tuple(Submission(**{**each, "after": tuple(each.get("after") or ())}) for each in noted.get("jobs") or [])


def _folder(run_dir: RunDir) -> int:
    """What tells a directory from its copies, on every machine that sees it, also after it was renamed: its inode."""
    return run_dir.root.stat().st_ino if run_dir.root.exists() else 0


def alive(run_dir: RunDir) -> tuple[Submission, ...]:
    """Those that may be queued or running, as far as is known without asking the scheduler."""
    return tuple(each for each in read(run_dir) if each.alive)


def last_chain(run_dir: RunDir) -> tuple[Submission, ...]:
    """The jobs that were submitted together last, in order: the first of a chain waits for no other. What was refused never was."""
    listed = [each for each in read(run_dir) if each.over != "REFUSED"]
    first = max((place for place, each in enumerate(listed) if not each.after), default=0)
    return tuple(listed[first:])


def put(run_dir: RunDir, changed: Submission) -> None:
    """Add a submission, or replace the one of the same key."""
    known = list(read(run_dir))
    places = [place for place, each in enumerate(known) if each.key == changed.key]
    if places:
        known[places[0]] = changed
    else:
        known.append(changed)
    write_json(run_dir.submissions, {"folder": _folder(run_dir), "jobs": [asdict(each) for each in known]})


def ended(run_dir: RunDir, one: Submission, state: str) -> None:
    """Note that a job was seen to have ended."""
    put(run_dir, replace(one, over=state))


@contextmanager
def hold(run_dir: RunDir) -> Iterator[None]:
    """Wait until nobody else submits this run; the kernel releases the lock when its owner dies."""
    run_dir.slurm.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run_dir.submission_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
