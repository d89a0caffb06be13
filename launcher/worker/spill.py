"""Under WSL2 the driver moves memory that does not fit the GPU into host memory, without an error: steps take ten times as long."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

from launcher.text import gib

_FULL = 0.98
"""Share of the device in use, by whomever, from which on it counts as full: what is asked for next goes to host memory."""
_CLIFF = 3.0
"""So many times the usual time of a step. Host memory is behind a link some thirty times slower than the GPU's own."""
_STEPS = 3
"""So many steps in a row: one long row, or a desktop that is used for a moment, is no spill."""
_LEAST_USUAL = 5
_WINDOW = 100
_FIRST = 2
"""Steps that take longer anyway: kernels are chosen and compiled."""


@dataclass(frozen=True)
class Spilled:
    """What was seen when memory had spilled. Bytes, seconds of one step."""

    reserved: int
    total: int
    seconds: float
    usual: float | None
    """Median of the steps before; None where it has been so from the start."""

    def sentence(self) -> str:
        """For people: what is seen, and what to do."""
        slower = f": steps take {self.seconds:.3g} s, {self.seconds / self.usual:.0f} times as long as before" if self.usual else ""  # fmt: skip
        held = f"the GPU's memory is full ({gib(self.reserved)} held of {gib(self.total)}) and has spilled into host memory"
        return (
            f"{held}{slower}; stop the run and go on with fewer rows at a time "
            "(`--set training.per_device_train_batch_size=N`), and close other programs that use the GPU"
        )


class Spill:
    """Judges one step after another; tells once."""

    def __init__(self) -> None:
        self._usual: deque[float] = deque(maxlen=_WINDOW)
        self._seen = self._slow = self._beyond = 0
        self._told = False

    def add(self, seconds: float, *, reserved: int, free: int, total: int) -> Spilled | None:
        """Take a step; what to tell when three in a row show that memory has spilled.

        More held than the device has is proof by itself. A device that is full is not: it may just fit. Then the steps
        must also have become three times as long as those before.

        Args:
            seconds: what the step took.
            reserved: bytes that torch's allocator holds.
            free: bytes that the driver calls free on the device.
            total: bytes of the device.
        """
        self._seen += 1
        if self._seen <= _FIRST or self._told:
            return None
        usual = median(self._usual) if len(self._usual) >= _LEAST_USUAL else None
        full = reserved >= total or total - free >= _FULL * total
        self._beyond = self._beyond + 1 if reserved > total else 0
        slow = full and usual is not None and seconds >= _CLIFF * usual
        self._slow = self._slow + 1 if slow else 0
        if not slow:
            self._usual.append(seconds)
        self._told = max(self._slow, self._beyond) >= _STEPS
        return Spilled(reserved, total, seconds, usual if self._slow else None) if self._told else None
