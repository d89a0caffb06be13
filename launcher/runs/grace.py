"""Attempts that were asked to leave and killed before they had saved: how long they would have needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.runs.attempts import Attempt

_SPARE = 1.5
_LEAVING_S = 5.0
"""For processes that end, beside the step and the save."""


@dataclass(frozen=True)
class Shortfall:
    """An attempt whose time to leave was too short. Spans in seconds."""

    attempt: int
    step_s: float
    """Its slowest step."""
    save_s: float | None
    """The slowest save of the run; None where none was ever complete."""

    @property
    def needed_s(self) -> int | None:
        """What it needs: a step, a save, half as much again."""
        return None if self.save_s is None else math.ceil(_SPARE * (self.step_s + self.save_s) + _LEAVING_S)

    def sentence(self) -> str:
        """For people, with what to change."""
        head = f"attempt {self.attempt} was asked to leave and ended before it had saved"
        if self.needed_s is None:
            return f"{head}; how long a save takes is not known yet: save more often (`checkpoint.save_steps`)"
        took = f"its slowest step took {self.step_s:.1f} s and a save {self.save_s:.1f} s"
        return f"{head}: {took}, so it needs {self.needed_s} s (the profile's `stop_lead_s`; the partition's GraceTime)"


def shortfalls(
    events: Iterable[Mapping[str, Any]], attempts: Sequence[Attempt], *, over: bool = False
) -> tuple[Shortfall, ...]:
    """All of them, by the events of a run in order and by how its attempts ended: one that could say so was not killed.

    `over`: the last attempt has ended too; else it may still be saving.
    """
    told = {each.number for each in attempts if each.code is not None}
    asked: dict[int, bool] = {}
    steps: dict[int, float] = {}
    saves: list[float] = []
    number = 0
    for event in events:
        match event.get("event"):
            case "attempt":
                number = event.get("attempt", number + 1)
            case "asked" | "stop":
                asked[number] = True
            case "step":
                steps[number] = max(steps.get(number, 0.0), float(event.get("seconds") or 0.0))
            case "commit":
                saves.append(float(event.get("seconds") or 0.0))
                asked.pop(number, None)  # what it had is saved
            case "end":
                asked.pop(number, None)
    ended = [each for each in asked if (over or each < number) and each not in told]
    return tuple(Shortfall(each, steps.get(each, 0.0), max(saves, default=None)) for each in ended)
