"""Processes of a run on this machine: the child that runs a stage, and survivors of an earlier attempt."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from launcher.runs.paths import RunDir

_PROC = Path("/proc")
SAVE_GRACE_S = 60.0
"""How long ranks of a launcher that was killed may take to save and leave before they are ended."""


class Child:
    """A stage's outer process in a session of its own, so that Ctrl-C reaches only the launcher. Ends with the block."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        tether = [sys.executable, "-m", "launcher.executors.tether", str(os.getpid())]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*tether, *argv],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def poll(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask the group to stop (SIGTERM)."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the group at once and wait for it; nothing happens when it has ended."""
        if self._process.poll() is None:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def survivors(run_dir: RunDir, run_id: str) -> tuple[int, ...]:
    """Processes of this user that belong to this run: its id in their environment, their output in its directory.

    The second condition spares a copy of the directory that runs under the same id elsewhere; it holds after the
    directory was moved, because the kernel follows open files.
    """
    mark = f"LAUNCHER_RUN_ID={run_id}".encode()
    inside = f"{run_dir.root.resolve()}/"
    mine = (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit() and int(entry.name) != os.getpid())
    return tuple(pid for pid in mine if _belongs(_PROC / str(pid), mark, inside))


def end_survivors(run_dir: RunDir, run_id: str, *, urgent: Callable[[], bool], grace_s: float = SAVE_GRACE_S) -> None:
    """Let what is left of an earlier attempt save and leave, then end it. Returns when nothing is left.

    They have `grace_s` seconds before SIGKILL; when `urgent()` turns true, none.
    """
    deadline = time.monotonic() + grace_s
    left = survivors(run_dir, run_id)
    _send(left, signal.SIGTERM)
    while left:
        if urgent() or time.monotonic() > deadline:
            _send(left, signal.SIGKILL)
        time.sleep(0.1)
        left = survivors(run_dir, run_id)


def _send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _belongs(process: Path, mark: bytes, inside: str) -> bool:
    try:
        if process.stat().st_uid != os.getuid() or mark not in (process / "environ").read_bytes().split(b"\0"):
            return False
        return str((process / "fd" / "1").readlink()).startswith(inside)
    except OSError:  # it has ended, or is not ours to look at
        return False
