"""The jobs of a run as people and programs read them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from launcher import text
from launcher.cli.look import Look
from launcher.render import slurm_words as words
from launcher.runs import names

if TYPE_CHECKING:  # loaded for runs that were submitted
    from launcher.executors.slurm.standing import RunJob, Standing
    from launcher.executors.slurm.tracker import Seen

_DOING = {"prepare": "preparing", "train": "training", "evaluate": "evaluating", "export": "exporting"}
_WORDS = {"pending": "waits", "failed": "ended", "completing": "leaves its nodes"}
"""SLURM calls failed what has saved and left; what became of the run stands above."""
_DAY_S = 86400.0


def state(each: Look) -> str:
    """What the run does, in a few words: `queued: Priority`, `training, turn 2`."""
    name, reason = each.state.name, each.state.reason
    if name == "queued":
        return f"queued: {reason}" if reason else "queued"
    if name != "running":
        return f"{name} ({reason})" if name == "stopped" and reason else name
    share = "" if each.seen.stage != "prepare" or each.seen.share is None else f" {each.seen.share:.0%}"
    doing = _DOING.get(each.seen.stage or "", "running") + share
    if reason:
        doing = reason if reason == "starting" else f"{doing} ({reason})"
    turn = _turn(each)
    return f"{doing}, turn {turn}" if turn > 1 else doing


def eta(each: Look) -> str:
    """When SLURM expects to start what waits; empty where it does not say."""
    now = each.slurm.now if each.slurm and each.state.name == "queued" else None
    starts = now.seen.starts if now and now.seen else None
    return f"starts ~{clock(starts, each.now)}" if starts else ""


def headline(each: Look) -> str:
    """Where and what, for the first line of a run's screen."""
    now = each.slurm.now if each.slurm else None
    if now is None or now.seen is None or not now.seen.active:
        return " ".join(filter(None, [state(each), eta(each) and f"({eta(each)})"]))
    left = now.seen.seconds_left
    parts = [
        state(each),
        f"on {now.seen.nodes}" if now.seen.nodes else "",
        left and f"{text.duration(left)} left in its job",
    ]
    return ", ".join(str(part) for part in parts if part)


def jobs(standing: Standing, now: float) -> str:
    """The chain, a line for each job."""
    shown = [[each.asked.job_id or "-", each.asked.stage, *_job(each, now)] for each in standing.jobs]
    return text.table([[number, stage, _WORDS.get(state, state), told] for number, stage, state, told in shown])


def next_commands(each: Look) -> list[str]:
    """What to type where SLURM, and not the run itself, says so."""
    if each.slurm is None:
        return []
    name = names.typed(each.run_dir)
    if each.state.name == "queued" and each.slurm.now and not each.slurm.todo:
        return [f"launcher logs {name} -f (waits for it)", f"launcher stop {name} (takes it out of the queue)"]
    return [*each.slurm.todo]


def away(why: str) -> str:
    """One line where SLURM was not heard."""
    return f"{why}; this is what the files of the run say"


def as_json(standing: Standing) -> dict[str, Any]:
    """The jobs for programs."""
    return {"away": standing.away, "jobs": [_as_json(each) for each in standing.jobs]}


def clock(moment: float, now: float) -> str:
    """A time to come or gone, as short as it is clear: `03:10`, `Tue 03:10`, `2027-01-12`."""
    there, here = time.localtime(moment), time.localtime(now)
    if there[:3] == here[:3]:
        return time.strftime("%H:%M", there)
    return time.strftime("%a %H:%M" if abs(moment - now) < 6 * _DAY_S else "%Y-%m-%d", there)


def _turn(each: Look) -> int:
    """Number of the turn that runs; one that is about to start has no attempt yet."""
    last = each.attempts[-1] if each.attempts else None
    now = each.slurm.now if each.slurm else None
    if last is None or last.turn is None or now is None or last.turn.job != now.asked.job_id:
        return now.asked.turn + 1 if now else 1
    return last.turn.number + (each.state.reason == "starting")


def _job(each: RunJob, now: float) -> list[str]:
    seen = each.seen
    if seen is None:
        return [(each.asked.over or "not known").lower().replace("_", " "), ""]
    if seen.waits:
        return [seen.state.lower(), " · ".join(_waits(each, seen, now))]
    if seen.over:
        return [seen.state.lower(), words.end(seen.state, seen.reason) if seen.reason == "JobLaunchFailure" else ""]
    left = "" if seen.seconds_left is None else f"{text.duration(seen.seconds_left)} left"
    return [seen.state.lower(), " · ".join(part for part in (seen.nodes and f"on {seen.nodes}", left) if part)]


def _waits(each: RunJob, seen: Seen, now: float) -> list[str]:
    if seen.reason == "Dependency" and each.asked.after:
        return [f"after {', '.join(each.asked.after)}"]
    meaning = words.wait(seen.reason)
    told = [f"{seen.reason}: {meaning}" if meaning else seen.reason] if seen.reason else []
    return [*told, f"starts ~{clock(seen.starts, now)}"] if seen.starts else told


def _as_json(each: RunJob) -> dict[str, Any]:
    asked, seen = each.asked, each.seen
    return {
        "id": asked.job_id,
        "stage": asked.stage,
        "where": asked.where,
        "asked": asked.asked,
        "turn": asked.turn,
        "after": list(asked.after),
        "state": seen.state if seen else None,
        "reason": (seen.reason or None) if seen else None,
        "starts": seen.starts if seen else None,
        "nodes": (seen.nodes or None) if seen else None,
        "seconds_left": seen.seconds_left if seen else None,
        "over": seen.over if seen else None,
    }
