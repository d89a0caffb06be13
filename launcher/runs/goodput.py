"""Goodput of a run, from its events: how much of the time since it was first started went into steps that count.

Goodput = productive time / wall time (Meta's ETTR, Google's runtime goodput).

- Productive is the training time (`seconds` of the events `step` and `trained`) of the steps that led to where the run
  stands. Steps that an attempt trained and a later one trained again count once, for the later one; the time of the
  first training is lost.
- Wall time runs from the beginning of the first attempt to the last event. It holds what is not training (loading,
  preparing data, evaluation, saving) and the time after a crash or kill until somebody or something started the run again.
- Idle is the time between an attempt that ended on request, or well, and the next that a person started. It is no wall time.
- Queued is the time between a turn that a scheduler ended by its request (time limit, preemption) and the next: the nodes
  were others', so it is no wall time either. The wait after a crash is downtime, with the queue in it.
- An attempt begins with its event `attempt` and ends at the time its launcher noted; where the launcher was killed, at
  its last event. What ranks of an attempt say after another has replaced it does not count.
- Steps after the last logged or saved one of an attempt that was killed are known to nobody: their time is wall time,
  their number is not in `lost_steps`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from launcher.errors import Exit
from launcher.runs.attempts import Attempt

_ON_REQUEST = (Exit.DONE, Exit.SAVED_AND_STOPPED, Exit.LEFT_AT_ONCE)

_TOTALS = ("productive_s", "lost_s", "evaluating_s", "saving_s", "preparing_s")


@dataclass
class AttemptTime:
    """Where the time of one attempt went. Times in Unix seconds, spans in seconds."""

    number: int
    began: float
    ended: float
    from_step: int | None = None
    """The step it went on from; None when it did not come to train."""
    to_step: int | None = None
    """The last step it is known to have made."""
    first_step_s: float | None = None
    """From its beginning to the end of its first step."""
    productive_s: float = 0.0
    lost_s: float = 0.0
    lost_steps: int = 0
    """Steps it made that were trained again later."""
    evaluating_s: float = 0.0
    saving_s: float = 0.0
    """Time in which training waited for a checkpoint."""
    preparing_s: float = 0.0
    ended_well: bool = False
    """It came to its end, or was left on request."""

    @property
    def wall_s(self) -> float:
        """How long it lasted."""
        return max(0.0, self.ended - self.began)

    @property
    def steps(self) -> int:
        """Steps it is known to have made."""
        return 0 if self.from_step is None or self.to_step is None else self.to_step - self.from_step


@dataclass(frozen=True)
class Goodput:
    """Where the time of a run went, in seconds."""

    attempts: tuple[AttemptTime, ...] = ()
    down_s: float = 0.0
    """Between attempts, after a crash or a kill. Part of the wall time."""
    idle_s: float = 0.0
    """Between attempts, where a person had stopped the run or it was done. No part of the wall time."""
    queued_s: float = 0.0
    """Between the turns of a scheduler, after a turn that ended on request. No part of the wall time."""
    timed: bool = True
    """Every step said how long it took; runs of older versions did not."""

    @property
    def wall_s(self) -> float:
        """Time of all attempts and the downtime between them."""
        return self.total("wall_s") + self.down_s

    @property
    def other_s(self) -> float:
        """What is left of the wall time: starting processes, loading the model, writing the result, what a kill left untold."""
        return max(0.0, self.wall_s - self.down_s - sum(self.total(name) for name in _TOTALS))

    @property
    def share(self) -> float | None:
        """Productive time over wall time, 0 to 1; None before the first step and where steps were not timed."""
        if not self.timed or not self.wall_s or not any(each.steps for each in self.attempts):
            return None
        return self.total("productive_s") / self.wall_s

    @property
    def lost_steps(self) -> int:
        """Steps that were trained more than once, each time but the last."""
        return sum(each.lost_steps for each in self.attempts)

    def total(self, name: str) -> float:
        """Sum of one of the spans of `AttemptTime` over all attempts."""
        return float(sum(getattr(each, name) for each in self.attempts))

    def as_json(self) -> dict[str, Any]:
        """All of it for programs, to the millisecond."""
        totals = {name: self.total(name) for name in _TOTALS}
        whole = {
            "share": self.share,
            "wall_s": self.wall_s,
            "down_s": self.down_s,
            "idle_s": self.idle_s,
            "queued_s": self.queued_s,
            "other_s": self.other_s,
            **totals,
        }
        tried = [{**vars(each), "wall_s": each.wall_s, "steps": each.steps} for each in self.attempts]
        return {**_rounded(whole), "lost_steps": self.lost_steps, "attempts": [_rounded(each) for each in tried]}

    def attempt(self, number: int) -> AttemptTime | None:
        """The newest attempt of this number."""
        return next((each for each in reversed(self.attempts) if each.number == number), None)


def measure(events: Iterable[Mapping[str, Any]], attempts: Sequence[Attempt] = ()) -> Goodput:
    """Goodput by all events of a run, in order, and by what is known of how its attempts ended."""
    log = _Log()
    for event in events:
        log.add(event)
    for span in log.spans:
        span.attempt.productive_s += span.seconds
    facts = list(zip(log.attempts, _facts(log.attempts, attempts), strict=True))
    for each, known in facts:
        if known:
            each.ended, each.ended_well = max(each.ended, known.ended or 0.0), known.code in _ON_REQUEST
    waited = dict.fromkeys(("down_s", "idle_s", "queued_s"), 0.0)
    for (each, then), (after, known) in pairwise(facts):
        waited[_kind_of_wait(each, then, known)] += max(0.0, after.began - each.ended)
    return Goodput(tuple(log.attempts), timed=log.timed, **waited)


def _kind_of_wait(before: AttemptTime, then: Attempt | None, after: Attempt | None) -> str:
    """What the time between two attempts counts as."""
    by_itself = after is not None and after.asked_by == "policy"
    if not before.ended_well or (by_itself and not _turned(then, after)):
        return "down_s"
    return "queued_s" if by_itself else "idle_s"


def _turned(then: Attempt | None, after: Attempt | None) -> bool:
    """A scheduler has ended one's turn and given another one."""
    return then is not None and after is not None and after.turn is not None and then.turn != after.turn


def _facts(found: Sequence[AttemptTime], attempts: Sequence[Attempt]) -> list[Attempt | None]:
    """Facts per attempt. A copy without `attempts/` counts from 1 again: they belong to the newest of that number."""
    newest = {each.number: place for place, each in enumerate(found)}
    known = {each.number: each for each in attempts}
    return [known.get(each.number) if newest[each.number] == place else None for place, each in enumerate(found)]


@dataclass
class _Span:
    """Steps after `before` up to `to`, the seconds their training took, and who trained them."""

    before: int
    to: int
    seconds: float
    attempt: AttemptTime


@dataclass
class _Log:
    attempts: list[AttemptTime] = field(default_factory=list)
    spans: list[_Span] = field(default_factory=list)
    """Of the steps that led to where the run stands, in order."""
    timed: bool = True
    _preparing_since: float | None = None

    def add(self, event: Mapping[str, Any]) -> None:
        name, time, number = event.get("event"), _number(event.get("time")), event.get("attempt")
        if name == "attempt" or (name == "start" and self._is_newer(number)):
            self._begin(number, time)
        if not self.attempts or (number is not None and number != self.attempts[-1].number):
            return
        now = self.attempts[-1]
        if "export" in (name, event.get("stage")):
            return  # it may come days after the run; within one, the attempt's own end covers it
        now.ended = max(now.ended, time)
        match name:
            case "start":
                self._start(now, int(_number(event.get("step"))))
            case "step" | "trained":
                self._trained(now, event)
            case "eval" | "score":
                now.evaluating_s += _number(event.get("seconds"))
            case "commit" | "save_failed":
                now.saving_s += _number(event.get("blocked_s", event.get("seconds")))
            case "stage":
                self._stage(now, event)
            case "end" if event.get("state") == "finished":
                now.ended_well = True

    def _is_newer(self, number: Any) -> bool:
        """Ranks started by hand have no launcher to say that an attempt begins."""
        return isinstance(number, int) and (not self.attempts or number > self.attempts[-1].number)

    def _begin(self, number: Any, time: float) -> None:
        if not isinstance(number, int):
            number = self.attempts[-1].number + 1 if self.attempts else 1
        self.attempts.append(AttemptTime(number, time, time))
        self._preparing_since = None

    def _start(self, now: AttemptTime, step: int) -> None:
        """Training goes on from `step`: what was trained behind it is lost."""
        now.from_step = now.to_step = step
        kept = []
        for span in self.spans:
            lost = span.to - max(span.before, step)
            if lost > 0:
                seconds = span.seconds * lost / (span.to - span.before)
                span.attempt.lost_s += seconds
                span.attempt.lost_steps += lost
                span.to, span.seconds = span.to - lost, span.seconds - seconds
            if span.to > span.before:
                kept.append(span)
        self.spans = kept

    def _trained(self, now: AttemptTime, event: Mapping[str, Any]) -> None:
        step, seconds = int(_number(event.get("step"))), event.get("seconds")
        if now.from_step is None or now.to_step is None:
            now.from_step = now.to_step = step - 1
        if step <= now.to_step:
            return
        self.timed = self.timed and seconds is not None
        span = _Span(now.to_step, step, _number(seconds), now)
        if now.first_step_s is None:
            others = span.seconds * (span.to - span.before - 1) / (span.to - span.before)
            now.first_step_s = max(0.0, _number(event.get("time")) - now.began - others)
        now.to_step = step
        self.spans.append(span)

    def _stage(self, now: AttemptTime, event: Mapping[str, Any]) -> None:
        state = event.get("state")
        if event.get("stage") == "prepare":
            time = _number(event.get("time"))
            if self._preparing_since is not None:
                now.preparing_s += max(0.0, time - self._preparing_since)
            self._preparing_since = time if state == "started" else None
        if state == "stopped":
            now.ended_well = True


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in values.items()}


def _number(value: Any) -> float:
    """0 for what is missing or no number: a damaged line costs only itself."""
    return float(value) if isinstance(value, int | float) else 0.0
