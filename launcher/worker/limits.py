"""How long a rank may stand still: a limit that follows what the phases of this run have taken."""

from __future__ import annotations

import math
from collections import deque

from launcher.worker.beats import Beat, Phase

LEAST_S = 60.0
_SAFETY = 5.0
_SAMPLES = 1000
_PATIENCE_AT_FIRST = 30.0
"""Before its second step a rank loads weights, compiles and allocates."""
_PATIENCE: dict[Phase, float] = {"evaluate": 10.0, "save": 10.0, "leave": 10.0}


class Limits:
    """Limits of one rank, in seconds."""

    def __init__(self, fixed_s: float | None = None) -> None:
        """`fixed_s`: the limit within a step; None: the larger of a minute and five times the 99th percentile."""
        self._fixed_s = fixed_s
        self._taken: dict[Phase, deque[float]] = {}

    def moved(self, before: Beat, seconds: float) -> None:
        """Note that the rank stood at `before` for so long."""
        self._taken.setdefault(before.phase, deque(maxlen=_SAMPLES)).append(seconds)

    def limit(self, beat: Beat) -> float:
        """Seconds that it may stand at `beat`. Loading, saving and measuring have ten to thirty times those of a step."""
        patience = _PATIENCE.get(beat.phase, 1.0) if beat.step > beat.first else _PATIENCE_AT_FIRST
        if self._fixed_s is not None:
            return self._fixed_s * patience
        return max(LEAST_S * patience, _SAFETY * self._p99(beat.phase))

    def _p99(self, phase: Phase) -> float:
        taken = sorted(self._taken.get(phase, ()))
        return taken[math.ceil(0.99 * len(taken)) - 1] if taken else 0.0
