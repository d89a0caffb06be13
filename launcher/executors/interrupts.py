"""What a person asks of a running launcher: Ctrl-C, a signal, or the stop file."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Self

from launcher.runs.paths import RunDir
from launcher.runs.stopping import SIGNALS

_ASK = tuple(number for number in SIGNALS if number != signal.SIGQUIT)
"""Ctrl-\\ ends a program that does not answer: the launcher too, and then torchrun is asked to stop by the kernel."""


class Interrupts:
    """Counts requests while its block runs. One asks to save and leave; a second Ctrl-C to leave at once."""

    def __init__(self, run_dir: RunDir) -> None:
        self._stop_request = run_dir.stop_request
        self._signals = 0
        self._keys = 0

    def __enter__(self) -> Self:
        # What was ignored from the start stays ignored: `nohup launcher run …` outlives its terminal.
        heard = [number for number in _ASK if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._take) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Somebody wants the run to save and leave."""
        return self._signals > 0 or self._stop_request.exists()

    def urgent(self) -> bool:
        """A Ctrl-C came after an earlier request: leave now, without saving."""
        return self._keys > 0 and self._signals > 1

    def _take(self, number: int, _: FrameType | None) -> None:
        self._signals += 1
        self._keys += number == signal.SIGINT
