"""What a person asks of a running launcher: Ctrl-C, a signal, or the stop file."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Self

from launcher.runs import stopping
from launcher.runs.paths import RunDir
from launcher.runs.stopping import SIGNALS

_ASK = tuple(number for number in SIGNALS if number != signal.SIGQUIT)
"""Ctrl-\\ ends a program that does not answer: the launcher too, and then torchrun is asked to stop by the kernel."""


class Interrupts:
    """Counts requests while its block runs. One asks to save and leave; a second Ctrl-C to leave at once."""

    def __init__(self, run_dir: RunDir, judge: Callable[[int], bool] | None = None) -> None:
        """`judge`: takes the number of USR1 that came and says whether they mean now; None: each of them does."""
        self._run_dir = run_dir
        self._judge = judge
        self._warnings = 0
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
        if self._warnings and self._judge and self._judge(self._warnings):
            return True
        return self._signals > 0 or self._run_dir.stop_request.exists()

    def by_person(self) -> bool:
        """The request is a person's: `launcher stop`, or Ctrl-C. A scheduler's signal is not."""
        return self._keys > 0 or stopping.by_person(self._run_dir)

    def urgent(self) -> bool:
        """A Ctrl-C came after an earlier request: leave now, without saving."""
        return self._keys > 0 and self._signals > 1

    def _take(self, number: int, _: FrameType | None) -> None:
        if self._judge and number == signal.SIGUSR1:
            self._warnings += 1
            return
        self._signals += 1
        self._keys += number == signal.SIGINT
