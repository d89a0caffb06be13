"""A loss that jumps: judged against the losses before it, by median and median deviation, which a spike does not move."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

_WINDOW = 200
_LEAST = 30
_SIGMAS = 6.0
_SIGMA_OF_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
_LEAST_SIGMA = 0.01
"""As a share of the usual loss: a loss that hardly moves any more must not make a trifle a spike."""
_QUIET = 50


class Spikes:
    """The losses of the last 200 logged steps."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=_WINDOW)
        self._quiet = 0

    def add(self, loss: float) -> float | None:
        """Take the next loss; the usual one, when this one is more than six standard deviations above it.

        After a spike the next 50 losses are taken without a word: a rise that stays is told once.
        """
        if not math.isfinite(loss):
            return None
        usual = self._usual_below(loss)
        self._losses.append(loss)
        self._quiet -= 1
        if usual is None or self._quiet > 0:
            return None
        self._quiet = _QUIET
        return usual

    def _usual_below(self, loss: float) -> float | None:
        if len(self._losses) < _LEAST:
            return None
        usual = median(self._losses)
        deviation = median(abs(each - usual) for each in self._losses)
        sigma = max(_SIGMA_OF_MAD * deviation, _LEAST_SIGMA * abs(usual))
        return usual if loss > usual + _SIGMAS * sigma else None
