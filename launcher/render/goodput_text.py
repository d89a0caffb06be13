"""Goodput as people read it: one line on a run, and one row per attempt."""

from __future__ import annotations

from collections.abc import Iterator

from launcher import text
from launcher.runs.attempts import Attempt
from launcher.runs.goodput import AttemptTime, Goodput

_WORDS = {None: "killed", 0: "done", 85: "stopped", 130: "left at once"}


def line(found: Goodput) -> str:
    """The share of the time that counts, and where the rest went; empty before the first step."""
    (_, share), *rest = spans(found) or [("", "")]
    return " · ".join([share, *(f"{name} {value}" for name, value in rest)])


def spans(found: Goodput) -> list[tuple[str, str]]:
    """The share of the time that counts, then where the rest went, each with its name; empty before the first step."""
    if found.share is None:
        return []
    lost = found.total("lost_s")
    shown = [("goodput", f"{found.share:.0%} of {text.duration(found.wall_s)}")]
    if found.lost_steps:
        shown.append(("lost", f"{text.counted(found.lost_steps, 'step')}, {text.duration(lost)}"))
    for name, seconds in (
        ("preparing", found.total("preparing_s")),
        ("evaluating", found.total("evaluating_s")),
        ("saving", found.total("saving_s")),
        ("loading and the rest", found.other_s),
        ("down", found.down_s),
        ("stopped, not counted:", found.idle_s),
        ("queued, not counted:", found.queued_s),
    ):
        if seconds >= 0.5:
            shown.append((name, text.duration(seconds)))
    return shown


def row(attempt: Attempt, found: AttemptTime | None, *, running: bool, before: Attempt | None = None) -> list[str]:
    """One attempt: number, how it ended, from which step to which, how long it took, what is worth a note.

    `before`: the attempt before it, for how long the run waited between them.
    """
    ended = max(attempt.started, attempt.ended or 0.0, found.ended if found else 0.0)
    return [
        f"#{attempt.number}",
        how_it_ended(attempt, found, running=running),
        steps(found),
        text.duration(ended - attempt.started),
        " · ".join(_notes(attempt, found, before)),
    ]


def how_it_ended(attempt: Attempt, found: AttemptTime | None, *, running: bool) -> str:
    """In a word or two."""
    if attempt.code is None and running:
        return "running"
    if attempt.left_for:
        return attempt.left_for
    word = _WORDS.get(attempt.code, "failed")
    if word == "done" and not steps(found):
        return without_steps(found)
    return f"failed ({attempt.cause.replace('_', ' ')})" if word == "failed" and attempt.cause else word


def without_steps(found: AttemptTime | None) -> str:
    """What an attempt has done that came to its end and did not train."""
    return "evaluated" if found and found.evaluating_s else "prepared"


def steps(found: AttemptTime | None) -> str:
    """The step it went on from and the last one it made; empty when it did not come to train."""
    return "" if found is None or found.from_step is None else f"{found.from_step:,} → {found.to_step or 0:,}"


def _notes(attempt: Attempt, found: AttemptTime | None, before: Attempt | None) -> Iterator[str]:
    waited = attempt.started - before.ended if before and before.ended and before.turn != attempt.turn else 0
    if attempt.turn and waited >= 1:
        yield f"waited {text.duration(waited)} for turn {attempt.turn.number}"
    if attempt.asked_by == "policy":
        yield "by itself"
    if found and found.first_step_s is not None:
        yield f"first step after {text.duration(found.first_step_s)}"
    if found and found.lost_steps:
        yield f"{text.counted(found.lost_steps, 'step')} lost"
