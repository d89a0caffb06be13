"""The lock of a run directory: one process runs it. The kernel releases it when its owner dies, however it dies."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from launcher.runs.files import read_json
from launcher.runs.paths import RunDir

_PATIENCE_S = 1.0
"""`held` takes the lock for some microseconds; a start must not mistake that for a running launcher."""


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock, for people. `since` is Unix time in seconds."""

    host: str
    pid: int
    since: float


@contextmanager
def hold(run_dir: RunDir) -> Iterator[bool]:
    """Hold the run's lock; yields False at once when another process has it.

    The descriptor is closed on exec, so that no child keeps the lock of a dead launcher.
    """
    descriptor = os.open(run_dir.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        taken = _take(descriptor)
        if taken:
            _sign(descriptor)
        yield taken
    finally:
        os.close(descriptor)


def held(run_dir: RunDir) -> bool:
    """True while some process runs this directory."""
    try:
        descriptor = os.open(run_dir.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def owner(run_dir: RunDir) -> Owner | None:
    """Who took the lock last; says nothing about whether it is still held."""
    facts = read_json(run_dir.lock)
    if facts is None:
        return None
    return Owner(str(facts.get("host")), int(facts.get("pid", 0)), float(facts.get("since", 0)))


def _take(descriptor: int) -> bool:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _sign(descriptor: int) -> None:
    text = json.dumps({"host": platform.node(), "pid": os.getpid(), "since": round(time.time(), 3)})
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
