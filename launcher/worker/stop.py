"""Stop requests: a signal or a file sets a flag here; the trainer's callback acts on it at a step boundary."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
_SECONDS_BETWEEN_LOOKS = 0.2


class StopRequest:
    """What this rank knows of a stop request. Nothing is saved inside a signal handler."""

    def __init__(self, file: Path | None) -> None:
        """Watch for `file` (None: another rank does that) and, after `listen`, for signals."""
        self._file = file
        self._cause: str | None = None
        self._looked = 0.0

    def listen(self) -> None:
        """Take SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 as requests."""
        for number in _SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._cause = signal.Signals(number).name

    def cause(self) -> str | None:
        """Name of the signal, or `stop` for the file; None while nobody has asked."""
        if self._cause is None and self._file is not None and time.monotonic() - self._looked > _SECONDS_BETWEEN_LOOKS:
            self._looked = time.monotonic()
            if self._file.exists():
                self._cause = "stop"
        return self._cause
