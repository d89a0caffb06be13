"""The time of a job: how much is left, and how much of it saving and leaving will take."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from transformers import TrainerCallback

from launcher.runs import events
from launcher.runs.paths import RunDir

MARGIN_S = 30.0
"""Kept for what is not measured: trackers that finish, ranks and launcher that leave."""
_RECENT_STEPS = 100
_STEPS, _SAVES = 2, 2
"""So many of the slowest are kept free: the step that is being made and one more, and the save as slow again."""


class TimeLimit(TrainerCallback):
    """Measures steps and saves, and tells when the time that is left is just enough for two of each. For rank 0.

    Add it after all other callbacks: what they do between two steps is neither.
    """

    def __init__(self, run_dir: RunDir, deadline: float) -> None:
        """`deadline`: Unix time in seconds. Later changes of the machine's clock do not move it."""
        self._ends = time.monotonic() + deadline - time.time()
        self._events, self._offset = run_dir.events, 0
        self._steps: deque[float] = deque(maxlen=_RECENT_STEPS)
        self._slowest_save = 0.0
        self._since = time.monotonic()
        self._learn_saves()

    def is_near(self) -> bool:
        """The run must leave now."""
        return time.monotonic() + self.needed_s() > self._ends

    def leaves(self, seconds: float) -> bool:
        """There is time for something that takes `seconds`, and to save and leave after it."""
        return time.monotonic() + seconds + self.needed_s() <= self._ends

    def needed_s(self) -> float:
        """Seconds that two more steps and a save, as slow as the slowest and slower, may take together."""
        return _STEPS * max(self._steps, default=0.0) + _SAVES * self._slowest_save + MARGIN_S

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The first step begins."""
        self._since = time.monotonic()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """A step is made, with all that it waited for."""
        self._steps.append(time.monotonic() - self._since)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """The other callbacks are done: a save, or the next step, begins."""
        self._since = time.monotonic()

    def on_save(self, *_: Any, **__: Any) -> None:
        """A save has let go of the ranks; how long those before took in all stands in the events."""
        self._slowest_save = max(self._slowest_save, time.monotonic() - self._since)
        self._learn_saves()
        self._since = time.monotonic()

    def _learn_saves(self) -> None:
        """From this attempt and all before it: the first save, too, has a time to go by."""
        found, self._offset = events.follow_from(self._events, self._offset)
        saves = (float(event.get("seconds") or 0.0) for event in found if event.get("event") == "commit")
        self._slowest_save = max([self._slowest_save, *saves])
