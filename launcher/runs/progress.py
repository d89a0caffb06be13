"""How far a run is, from its events alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_WINDOW = 50
"""Steps over which the speed is averaged: long enough for a steady figure, short enough to follow a change."""


@dataclass
class Progress:
    """What the events so far say. Mutable: `add` takes the next event, so that a live view need not read them all again."""

    step: int = 0
    max_steps: int | None = None
    loss: float | None = None
    learning_rate: float | None = None
    memory_gib: float | None = None
    epoch: float | None = None
    stage: str | None = None
    what: str | None = None
    """What a long stage is doing."""
    share: float | None = None
    """How much of that is done, 0 to 1; None where it cannot be told."""
    losses: list[tuple[int, float]] = field(default_factory=list)
    """(step, training loss), in order."""
    first_eval: dict[str, float] = field(default_factory=dict)
    last_eval: dict[str, float] = field(default_factory=dict)
    saved_step: int | None = None
    saved_time: float | None = None
    last_time: float | None = None
    attempt: int = 0
    reached: dict[int, int] = field(default_factory=dict)
    """Attempt → the last step it made."""
    _steps: list[tuple[float, int, int | None]] = field(default_factory=list)
    _rows: list[tuple[float, int]] = field(default_factory=list)

    def add(self, event: Mapping[str, Any]) -> None:
        """Take one event. Unknown events and missing fields change nothing."""
        self.last_time = event.get("time", self.last_time)
        take = getattr(self, f"_on_{event.get('event')}", None)
        if take:
            take(event)

    @property
    def seconds_per_step(self) -> float | None:
        """Wall time per step over the last steps of this attempt; None before two steps were seen."""
        if len(self._steps) < 2:
            return None
        (first_time, first, _), (last_time, last, _) = self._steps[0], self._steps[-1]
        return (last_time - first_time) / (last - first) if last > first else None

    @property
    def tokens_per_s(self) -> float | None:
        """Trained tokens per second of wall time over the same steps."""
        known = [(time, tokens) for time, _, tokens in self._steps if tokens is not None]
        if len(known) < 2 or known[-1][0] <= known[0][0]:
            return None
        return (known[-1][1] - known[0][1]) / (known[-1][0] - known[0][0])

    @property
    def rows_per_s(self) -> float | None:
        """Rows per second of wall time in what a long stage is doing; None before it has said so twice."""
        if len(self._rows) < 2 or self._rows[-1][0] <= self._rows[0][0]:
            return None
        (first_time, first), (last_time, last) = self._rows[0], self._rows[-1]
        return (last - first) / (last_time - first_time)

    @property
    def seconds_left(self) -> float | None:
        """Steps left × seconds per step; evaluation and saving between steps are in that figure."""
        pace = self.seconds_per_step
        return None if pace is None or self.max_steps is None else max(0, self.max_steps - self.step) * pace

    @property
    def at_risk(self) -> int:
        """Steps that a kill would cost now: those since the last complete checkpoint."""
        return self.step - (self.saved_step or 0)

    def _on_attempt(self, event: Mapping[str, Any]) -> None:
        self.attempt = event.get("attempt", self.attempt + 1)
        self._steps.clear()

    def _on_stage(self, event: Mapping[str, Any]) -> None:
        self.stage = event.get("stage") if event.get("state") == "started" else None
        self.what = self.share = None
        self._rows.clear()

    def _on_progress(self, event: Mapping[str, Any]) -> None:
        if event.get("what") != self.what:
            self._rows.clear()
        self.what, self.share = event.get("what"), event.get("share")
        if event.get("rows") is not None:
            self._rows = [*self._rows[-_WINDOW:], (event.get("time", 0.0), event["rows"])]

    def _on_start(self, event: Mapping[str, Any]) -> None:
        if self._is_stale(event):
            return
        if event.get("attempt", self.attempt) > self.attempt:
            self._on_attempt(event)  # ranks started by hand have no launcher to say so
        self.max_steps = event.get("max_steps", self.max_steps)
        self._rewind(event.get("step", 0))

    def _on_resume(self, event: Mapping[str, Any]) -> None:
        self._rewind(event.get("step", 0))

    def _on_step(self, event: Mapping[str, Any]) -> None:
        if self._is_stale(event):
            return
        self._on_trained(event)
        self._steps = [*self._steps[-_WINDOW:], (event.get("time", 0.0), self.step, event.get("tokens"))]
        for name in ("loss", "learning_rate", "memory_gib", "epoch"):
            if event.get(name) is not None:
                setattr(self, name, event[name])
        if event.get("loss") is not None:
            self.losses.append((self.step, event["loss"]))

    def _on_trained(self, event: Mapping[str, Any]) -> None:
        if not self._is_stale(event):
            self.step = event.get("step", self.step)
            self.reached[self.attempt] = self.step

    def _on_eval(self, event: Mapping[str, Any]) -> None:
        label, loss = event.get("dataset"), event.get("loss")
        if label is not None and loss is not None:
            self.first_eval.setdefault(label, loss)
            self.last_eval[label] = loss

    def _on_commit(self, event: Mapping[str, Any]) -> None:
        self.saved_step, self.saved_time = event.get("step"), event.get("time")

    def _is_stale(self, event: Mapping[str, Any]) -> bool:
        """Written by ranks of an attempt that another one has replaced."""
        return bool(event.get("attempt", self.attempt) < self.attempt)

    def _rewind(self, step: int) -> None:
        """A new attempt goes on from `step`: what came after it will be trained again."""
        self.losses = [each for each in self.losses if each[0] <= step]
        self.step = step
        if self.at_risk < 0:  # the checkpoint saved last was passed over
            self.saved_step = step or None
        self._steps.clear()


def progress(events: Iterable[Mapping[str, Any]]) -> Progress:
    """What `events` say, in order."""
    seen = Progress()
    for event in events:
        seen.add(event)
    return seen
