"""`launcher logs RUN`: the log of one rank or stage, of the latest attempt that wrote one; before that, the job's own."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from launcher.cli.look import Look, look
from launcher.errors import EnvironmentFault, Exit
from launcher.runs import attempts, lock, names, submissions
from launcher.runs.paths import RunDir

_POLL_S = 0.2
_BLOCK_BYTES = 2**20
_ASK_S, _ASK_MOST_S = 2.0, 30.0
"""Between two questions to SLURM while nothing runs: at first, and after a while."""


def run(args: Namespace) -> int:
    """Print the log; with `--follow`, go on until the run ends, through its queue, its turns and its attempts."""
    run_dir = names.find(Path(args.runs), args.run)
    watch = Watch(run_dir)
    path, offset = _first(run_dir, args, watch), 0
    while True:
        goes_on = args.follow and watch.goes_on()  # looked at first: what is written until the end is printed
        offset = _print_from(path, offset)
        newest = _newest(run_dir, args)
        if newest != path:
            path, offset = newest, 0
        elif not goes_on:
            return Exit.DONE
        else:
            time.sleep(_POLL_S)


class Watch:
    """Whether a run goes on. While its lock is held SLURM is not asked; the longer nothing runs, the more seldom."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._submitted = bool(submissions.read(run_dir))
        self._answer = True
        self._every_s, self._next = _ASK_S, 0.0
        self._told = False

    def goes_on(self) -> bool:
        """It runs, or waits in a queue."""
        if lock.held(self._run_dir):
            self._every_s, self._next, self._told = _ASK_S, 0.0, False
            return True
        if not self._submitted or self._run_dir.done.exists():
            return False
        if time.monotonic() >= self._next:
            self._ask()
        return self._answer

    def _ask(self) -> None:
        seen = look(self._run_dir)
        self._next = time.monotonic() + self._every_s
        self._every_s = min(2 * self._every_s, _ASK_MOST_S)
        self._answer = seen.away is not None or seen.state.name in ("running", "queued")
        if self._answer and not self._told and (seen.away or seen.state.name == "queued"):
            self._told = True
            print(_waits(seen), file=sys.stderr, flush=True)


def _waits(seen: Look) -> str:
    """Once for each wait."""
    if seen.away:
        return f"{seen.away}; waiting for the log"
    job = seen.slurm.now.asked.job_id if seen.slurm and seen.slurm.now else None
    why = f": {seen.state.reason}" if seen.state.reason else ""
    return f"{seen.run_dir.name} waits in the queue (job {job}{why}); its log follows when it runs"


def _first(run_dir: RunDir, args: Namespace, watch: Watch) -> Path:
    """The log to begin with; a run that has just started may not have one yet, and a follower waits for it."""
    while args.follow and watch.goes_on():
        try:
            return _newest(run_dir, args)
        except EnvironmentFault:
            time.sleep(_POLL_S)
    return _newest(run_dir, args)


def _newest(run_dir: RunDir, args: Namespace) -> Path:
    """The log that was asked for; while no rank has begun to write, that of the stage before it, or of its job."""
    found = _of_jobs(run_dir, args.stage) if args.job else _of_attempts(run_dir, args)
    path = next(found, None)
    if path is None:
        what = "its jobs" if args.job else f"stage {args.stage}" if args.stage else f"rank {args.rank}"
        raise EnvironmentFault(
            f"{run_dir.name} has no log of {what} yet",
            hint=f"`launcher status {names.typed(run_dir)}` says what it does",
        )
    return path


def _of_attempts(run_dir: RunDir, args: Namespace) -> Iterator[Path]:
    for number in reversed(attempts.numbers(run_dir)):
        asked = run_dir.stage_log(number, args.stage) if args.stage else run_dir.rank_log(number, args.rank)
        if asked.exists():
            yield asked
        if not args.stage and not args.rank:
            before = (run_dir.stage_log(number, stage) for stage in ("train", "prepare"))
            yield from (path for path in before if path.exists() and path.stat().st_size)
    if not args.rank:
        yield from _of_jobs(run_dir, args.stage)


def _of_jobs(run_dir: RunDir, stage: str | None) -> Iterator[Path]:
    """What jobs of a scheduler have printed, the latest job first."""
    for job in reversed(submissions.read(run_dir)):
        if job.job_id and stage in (None, job.stage):
            yield from (path for path in run_dir.job_log(job.stage, job.job_id) if path.exists())


def _print_from(path: Path, offset: int) -> int:
    with path.open("rb") as file:
        file.seek(offset)
        while block := file.read(_BLOCK_BYTES):
            sys.stdout.buffer.write(block)
        sys.stdout.flush()
        return file.tell()
