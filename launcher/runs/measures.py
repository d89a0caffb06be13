"""What the newest attempt was measured to take, from the events of a run: seconds and tokens of its steps, memory of its ranks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

_FIRST = 2
"""Steps that count for no figure of an attempt that still runs; the worker leaves out as many."""


@dataclass(frozen=True)
class Measures:
    """Seconds of one optimizer step, tokens a second over all ranks, bytes of a rank. None: not known (yet)."""

    attempt: int
    steps: int = 0
    """Steps behind the times; the first of an attempt are left out."""
    step_s: float | None = None
    """The median."""
    step_p90_s: float | None = None
    step_p99_s: float | None = None
    tokens_per_s: float | None = None
    """Without padding."""
    computed_tokens_per_s: float | None = None
    """With padding."""
    computed_tokens: int | None = None
    """The same of one step, the mean."""
    device: str | None = None
    """What the driver calls the GPU; of a CPU, the processor."""
    ranks: tuple[Mapping[str, int], ...] = ()
    """Of each rank the bytes by name: `allocated_bytes`, …; on a CPU `anonymous_bytes`, those of the process;
    and `largest_tokens`: those of its largest micro-batch, padding included."""
    resident_gib: float | None = None
    """Most that rank 0 has held so far, loading and evaluations included, while nothing better is known."""
    over: bool = False
    """The attempt has told it all; else these are its steps so far."""
    spill: str | None = None
    """What was said when memory of the GPU had spilled into host memory."""

    def most(self, name: str) -> int | None:
        """The largest of a rank's figures."""
        return max((rank[name] for rank in self.ranks if isinstance(rank.get(name), int)), default=None)

    def as_json(self) -> dict[str, Any]:
        """All of it for programs."""
        return {**asdict(self), "ranks": [dict(rank) for rank in self.ranks]}


def measures(events: Iterable[Mapping[str, Any]]) -> Measures | None:
    """Those of the newest attempt that came to train; None where none did."""
    log = _Log()
    for event in events:
        log.add(event)
    return log.told()


@dataclass
class _Log:
    attempt: int = 0
    step: int = 0
    steps: list[tuple[int, float, int | None]] = field(default_factory=list)
    """Of each event of trained steps: how many, their seconds, and the tokens until then."""
    resident_gib: float | None = None
    whole: Mapping[str, Any] | None = None
    spill: str | None = None

    def add(self, event: Mapping[str, Any]) -> None:
        number = event.get("attempt", self.attempt)
        if not isinstance(number, int) or number < self.attempt:
            return  # ranks of an attempt that another has replaced may still write
        match event.get("event"):
            case "start":
                self.attempt, self.step, self.steps = number, int(event.get("step") or 0), []
                self.whole = self.spill = self.resident_gib = None
            case "step" | "trained" if number == self.attempt:
                self._trained(event)
            case "measured" if number == self.attempt:
                self.whole = event
            case "warning" if event.get("spill"):
                self.spill = str(event.get("message"))

    def _trained(self, event: Mapping[str, Any]) -> None:
        step, seconds = event.get("step"), event.get("seconds")
        if isinstance(step, int) and isinstance(seconds, int | float) and step > self.step:
            self.steps.append((step - self.step, float(seconds), event.get("tokens")))
            self.step = step
        self.resident_gib = event.get("memory_gib") or self.resident_gib

    def told(self) -> Measures | None:
        if self.whole is not None:
            return self._whole(self.whole)
        if not self.steps:
            return None
        counted = self._counted()
        each = [seconds / number for number, seconds, _ in counted for _ in range(number)]
        return Measures(
            self.attempt,
            steps=len(each),
            step_s=median(each) if each else None,
            step_p90_s=percentile(each, 90),
            step_p99_s=percentile(each, 99),
            tokens_per_s=_rate(self.steps[len(self.steps) - len(counted) - 1 :]),
            resident_gib=self.resident_gib,
            spill=self.spill,
        )

    def _counted(self) -> list[tuple[int, float, int | None]]:
        """Without the first steps."""
        seen = 0
        for place, (number, _, _) in enumerate(self.steps):
            if seen >= _FIRST:
                return self.steps[place:]
            seen += number
        return []

    def _whole(self, event: Mapping[str, Any]) -> Measures:
        ranks = tuple(each for each in event.get("ranks") or () if isinstance(each, Mapping))
        names = (
            "step_s",
            "step_p90_s",
            "step_p99_s",
            "tokens_per_s",
            "computed_tokens_per_s",
            "computed_tokens",
            "device",
        )
        figures = {name: event.get(name) for name in names}
        steps = int(event.get("steps") or 0)
        return Measures(
            self.attempt, steps, **figures, ranks=ranks, resident_gib=self.resident_gib, over=True, spill=self.spill
        )


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The least of these values that so many percent of them do not exceed (nearest rank); None of none."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1] if values else None


def _rate(steps: Sequence[tuple[int, float, int | None]]) -> float | None:
    """Tokens a second of the steps behind the first entry, which says how many there were before."""
    known = [(seconds, tokens) for _, seconds, tokens in steps if tokens is not None]
    if len(known) < 2 or len(known) < len(steps):
        return None
    seconds = sum(each for each, _ in known[1:])
    return (known[-1][1] - known[0][1]) / seconds if seconds else None
