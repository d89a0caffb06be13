"""What a long stage says of itself: lines for its log, and where it stands as events."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from launcher.runs import events
from launcher.runs.paths import RunDir

_EVERY_S = 0.5


class Progress:
    """Tells people where a stage stands: `say` for a line, `at` for a share of the work (at most twice a second)."""

    def __init__(self, line: Callable[[str], None], run_dir: RunDir, stage: str) -> None:
        self.say = line
        self._run_dir = run_dir
        self._stage = stage
        self._last = 0.0

    def at(self, what: str, share: float | None, **figures: Any) -> None:
        """Note that `share` (0 to 1; None: not known) of `what` is done."""
        now = time.monotonic()
        if now - self._last < _EVERY_S:
            return
        self._last = now
        shown = None if share is None else round(min(1.0, share), 4)
        events.append(self._run_dir.events, "progress", stage=self._stage, what=what, share=shown, **figures)
