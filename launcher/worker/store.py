"""Checkpoints of a run: written aside, hashed and synced beside training, sealed by a manifest, then renamed to where they count.

What blocks training is writing the files. The rest is done by one thread per rank: rank R reads back and syncs what it
wrote and tells rank 0, which checks that nothing is missing, writes the manifest last, renames the folder and then lets
old checkpoints go. A process that dies at any moment leaves either a whole checkpoint or none.
"""

from __future__ import annotations

import errno
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from launcher.errors import RunFailed
from launcher.plan import codec
from launcher.runs import attempts, checkpoints, events
from launcher.runs.files import sha256_file, sync
from launcher.worker.acks import Acks, Files, Unconfirmed, owner
from launcher.worker.job import Job
from launcher.worker.retention import retire
from launcher.worker.space import Reserve, Trouble, trouble

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes")
"""Libraries whose version a checkpoint records: with others, the continuation is not the same to the bit."""
_CONFIRM_S = 600.0
"""How long rank 0 waits for the others' part of a checkpoint; training goes on meanwhile."""
_SHOWN_S = 60.0
"""How long files of other nodes may stay invisible (attribute caches of network file systems)."""
_TRIES = 3
_PASSING = (errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR)


class Superseded(RunFailed):
    """A newer attempt of this run has begun; this one may not write any more."""


class CheckpointStore:
    """Where one attempt writes its checkpoints. Every rank has one; only rank 0 commits."""

    def __init__(self, job: Job, attempt: int, rank: int, world_size: int) -> None:
        self.run_dir = job.run_dir
        self.plan = job.plan
        self.data = job.data_facts()
        self.attempt, self.rank, self.world_size = attempt, rank, world_size
        self.staging = job.run_dir.staged(attempt)
        self._acks = Acks(attempt, rank, world_size)
        self._reserve = Reserve(self.staging / "reserve")
        self._short: str | None = None
        self._last_trouble: Trouble | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[Trouble | None] | None = None
        self._started = 0.0

    def check_fence(self) -> None:
        """Make sure that this attempt is still the one that runs this directory.

        Raises:
            Superseded: it is not.
        """
        newest = max(attempts.numbers(self.run_dir), default=0)
        if newest > self.attempt:
            raise Superseded(
                f"attempt {newest} has taken over {self.run_dir.name}; attempt {self.attempt} was paused or cut off meanwhile",
                hint="`launcher status` shows the run; nothing is lost",
            )

    def begin(self, step: int) -> Trouble | None:
        """Make ready for a checkpoint: wait for the last one, give its reserved space back, look whether we still may write.

        Returns:
            What stands in the way, if anything does.

        Raises:
            Superseded: a newer attempt runs this directory.
        """
        self.settle()
        self._started = time.monotonic()
        if self.rank != 0:
            return None
        self.check_fence()
        events.append(self.run_dir.events, "save", step=step)
        try:
            self.staging.mkdir(parents=True, exist_ok=True)
            self._reserve.release()
        except OSError as error:
            return trouble(error, self.run_dir.checkpoints)
        return None

    def commit(self, step: int) -> None:
        """All ranks have written their files of `step`: go on with them beside training."""
        blocked_s = time.monotonic() - self._started
        self._pending = self._thread.submit(self._finish, step, blocked_s)

    def abandon(self, step: int, mine: Trouble | None) -> None:
        """Some rank could not write: tell why (the rank that knows it) and give the space back (rank 0)."""
        self._last_trouble = mine
        if mine:
            self._failed(step, mine)
        if self.rank == 0:
            checkpoints.discard(self.run_dir, self._staged(step))

    def settle(self) -> Trouble | None:
        """Wait until the checkpoint that is being committed is whole, or has failed.

        Returns:
            Why the newest checkpoint failed, as far as this rank knows; that has been told already.

        Raises:
            Superseded: a newer attempt runs this directory.
        """
        pending, self._pending = self._pending, None
        if pending:
            self._last_trouble = pending.result()
        return self._last_trouble

    def finish_within(self, seconds: float) -> None:
        """Training has failed: a checkpoint that is nearly whole is worth a moment, whatever becomes of it."""
        if self._pending:
            wait([self._pending], timeout=seconds)

    def release(self) -> None:
        """Give back the space held for the next checkpoint: there is none to come."""
        if self.rank == 0:
            with suppress(OSError):
                self._reserve.release()

    def take_over(self) -> None:
        """On rank 0, before the first step: what earlier attempts were writing goes.

        Raises:
            Superseded: a newer attempt runs this directory.
        """
        self.check_fence()
        checkpoints.sweep(self.run_dir)

    def sweep(self) -> None:
        """Remove what this attempt has staged; a newer attempt's stays."""
        checkpoints.discard(self.run_dir, self.staging)
        for folder in (self.run_dir.staging, self.run_dir.trash):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _staged(self, step: int) -> Path:
        return self.staging / f"checkpoint-{step}"

    def _finish(self, step: int, blocked_s: float) -> Trouble | None:
        """What happens beside training. Storage that refuses costs this checkpoint, not the run."""
        try:
            self._confirm_and_publish(step, blocked_s)
        except (OSError, Unconfirmed) as error:
            self.check_fence()  # a newer attempt sweeps what this one was writing
            found = trouble(error, self.staging) or Trouble(str(error), str(self.run_dir.checkpoints))
            self.abandon(step, found)
            self._acks.refuse(step, found.sentence)
            return found
        return None

    def _confirm_and_publish(self, step: int, blocked_s: float) -> None:
        mine = _described(self._staged(step), self.rank, self.world_size)
        if self.rank != 0:
            self._acks.confirm(step, mine)
            return
        target = self._publish(step, self._acks.collect(step, mine, _CONFIRM_S))
        self.check_fence()  # paused behind the rename: the newer attempt has found this checkpoint, and tells its own story
        seconds = round(time.monotonic() - self._started, 3)
        events.append(
            self.run_dir.events,
            "commit",
            step=step,
            checkpoint=target.name,
            seconds=seconds,
            blocked_s=round(blocked_s, 3),
        )
        retire(self.run_dir, self.plan.checkpoint)
        self._reserve_next(target, step)

    def _publish(self, step: int, files: Files) -> Path:
        staged, target = self._staged(step), self.run_dir.checkpoints / f"checkpoint-{step}"
        _check_complete(staged, files, self.world_size)
        body = self._manifest(step, files)
        manifest = staged / checkpoints.MANIFEST
        manifest.write_text(checkpoints.manifest_text(body), encoding="utf-8")
        sync(manifest)
        for folder in (*{path.parent for path in staged.rglob("*") if path.is_file()}, staged):
            sync(folder)
        self.check_fence()
        if target.exists():
            checkpoints.discard(self.run_dir, target)
        _renamed(staged, target)
        sync(self.run_dir.checkpoints)
        return target

    def _manifest(self, step: int, files: Files) -> dict[str, Any]:
        batch = self.plan.batch
        return {
            "schema": checkpoints.SCHEMA,
            "step": step,
            "time": round(time.time(), 3),
            "attempt": self.attempt,
            "world_size": self.world_size,
            "per_device": batch.per_device,
            "accumulation": batch.accumulation,
            "strategy": self.plan.strategy,
            "plan": codec.digest(self.plan),
            "identity": self.plan.identity,
            "data": sha256_file(self.run_dir.data_facts),
            "rows": self.data["sets"]["train"]["sha256"],
            "model": self.data.get("model"),
            "versions": {name: version(name) for name in PACKAGES},
            "files": {name: dict(files[name]) for name in sorted(files)},
        }

    def _reserve_next(self, target: Path, step: int) -> None:
        """Hold the space of the next checkpoint, and say in time when there is none."""
        checked = checkpoints.check(target, step, contents=False)
        if not isinstance(checked, checkpoints.Checkpoint):
            return
        self.staging.mkdir(parents=True, exist_ok=True)
        short = self._reserve.take(checked.bytes, len(checked.manifest["files"]))
        if short and self._short is None:
            events.append(self.run_dir.events, "warning", message=f"the next checkpoint will not fit: {short.sentence}")
        self._short = short.sentence if short else None

    def _failed(self, step: int, found: Trouble) -> None:
        message = f"checkpoint-{step} could not be saved: {found.sentence}"
        events.append(self.run_dir.events, "save_failed", step=step, error=message, mount=found.mount, rank=self.rank)


def _described(folder: Path, rank: int, world_size: int) -> dict[str, dict[str, Any]]:
    """Size and sha256 of what `rank` wrote, all of it on the storage itself."""
    described = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and owner(name, world_size) == rank:
            described[name] = {"size": path.stat().st_size, "sha256": sha256_file(path)}
            sync(path)
    return described


def _check_complete(staged: Path, files: Files, world_size: int) -> None:
    """What the ranks say they wrote is there as rank 0 sees it; a network file system may take a while to show it."""
    parts = {f"rng_state_{rank}.pth" for rank in range(world_size) if world_size > 1}
    if missing := sorted(parts - set(files)):
        raise Unconfirmed(f"{staged.name} lacks {', '.join(missing)}")
    deadline = time.monotonic() + _SHOWN_S
    while hidden := [name for name, facts in files.items() if not _has_size(staged / name, facts["size"])]:
        if time.monotonic() > deadline:
            raise Unconfirmed(f"{staged.name} lacks {', '.join(hidden)}, written by another rank")
        time.sleep(0.5)


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _renamed(staged: Path, target: Path) -> None:
    """Rename, more than once where a network file system has a bad moment; it may have done it and lost the answer."""
    for tried in range(_TRIES):
        try:
            os.rename(staged, target)  # noqa: PTH104 - the one call that makes a checkpoint count
        except OSError as error:
            if tried and target.exists() and not staged.exists():
                return
            if error.errno not in _PASSING or tried == _TRIES - 1:
                raise
            time.sleep(0.5)
        else:
            return
