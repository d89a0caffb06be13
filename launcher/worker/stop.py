"""Stop requests: a signal, a file or the end of the time is noted here; the boundary acts on it, between two steps."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from launcher.runs.stopping import SIGNALS

if TYPE_CHECKING:  # a rank listens before it has loaded anything
    from pathlib import Path
    from types import FrameType

    from launcher.worker.time_limit import TimeLimit

_SECONDS_BETWEEN_LOOKS = 0.2
_heard: list[str] = []
"""Names of the signals that this process got, in order."""


def listen() -> None:
    """Take signals as requests, from now to the end of this process; call it as early as possible.

    The handler only notes the name: nothing is saved in it, and a system call that it interrupts goes on.
    """
    for number in SIGNALS:
        signal.signal(number, _hear)
        signal.siginterrupt(number, False)  # noqa: FBT003 - takes it by position only


def _hear(number: int, _frame: FrameType | None) -> None:
    if len(_heard) < len(SIGNALS):
        _heard.append(signal.Signals(number).name)


class StopRequest:
    """What this rank knows of a stop request; once made, it stands."""

    def __init__(self, file: Path | None = None, limit: TimeLimit | None = None) -> None:
        """Watch for signals, for `file` and for the end of the time; None: another rank does that."""
        self._file = file
        self.limit = limit
        self._cause: str | None = None
        self._looked = 0.0

    def cause(self) -> str | None:
        """Name of the signal, `stop` for the file, `time limit`; None while nothing asks."""
        if self._cause is None:
            self._cause = _heard[0] if _heard else self._looked_up()
        return self._cause

    def _looked_up(self) -> str | None:
        if time.monotonic() - self._looked < _SECONDS_BETWEEN_LOOKS:
            return None
        self._looked = time.monotonic()
        if self._file is not None and self._file.exists():
            return "stop"
        return "time limit" if self.limit is not None and self.limit.is_near() else None
