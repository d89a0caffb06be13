"""Whether an attempt that ended is followed by another: only where that can help, and never in a circle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from launcher.errors import Exit
from launcher.runs import attempts, checkpoints
from launcher.runs.attempts import Attempt, ExitNote
from launcher.runs.files import read_json
from launcher.runs.paths import RunDir

WITHOUT_PROGRESS = 3
"""So many attempts in a row that save nothing new are enough: the next one would not either."""
MAX_REQUEUES = 10
"""How often a run may start again by itself where its recipe does not say (`launch.max_requeues`)."""

_LONGEST_WAIT_S = 60.0
_OF_THE_MACHINE = ("infrastructure", "hang")
CODES: Mapping[str, Exit] = {
    "finished": Exit.DONE,
    "stopped": Exit.SAVED_AND_STOPPED,
    "infrastructure": Exit.INFRASTRUCTURE,
    "hang": Exit.INFRASTRUCTURE,
    "data": Exit.USAGE,
    "environment": Exit.ENVIRONMENT,
    "disk_full": Exit.ENVIRONMENT,
}
"""Exit code of a run that ends with this cause; any other is `RUN_FAILED`."""


@dataclass(frozen=True)
class Tried:
    """What one attempt came to: why it ended, and the newest complete checkpoint before and after it."""

    cause: str
    from_step: int
    to_step: int

    @property
    def advanced(self) -> bool:
        """It has saved something new."""
        return self.to_step > self.from_step


@dataclass(frozen=True)
class Retry:
    """Start another attempt after so many seconds."""

    after_s: float


@dataclass(frozen=True)
class Stop:
    """Leave it at that. `reason` says why there is no further attempt, where that is not plain from the cause."""

    code: Exit
    reason: str | None = None


def decide(
    tried: Sequence[Tried], *, max_requeues: int = MAX_REQUEUES, preemptible: bool = False, smaller: bool = False
) -> Retry | Stop:
    """What follows the last of these attempts.

    Args:
        tried: the attempts since a person asked for the run, in order; at least one.
        max_requeues: how often the run may start again by itself.
        preemptible: a stop request comes from a scheduler, which gives the run another turn; else from a person.
        smaller: after running out of memory, a smaller split of the batch may be tried, which was not tried before.
    """
    last = tried[-1]
    if last.cause == "out_of_memory" and smaller:
        return Retry(0.0)
    if last.cause not in _OF_THE_MACHINE and not (last.cause == "stopped" and preemptible):
        return Stop(CODES.get(last.cause, Exit.RUN_FAILED))
    vain = in_vain(tried)
    if vain >= WITHOUT_PROGRESS:
        return Stop(Exit.DO_NOT_REQUEUE, f"no progress in {vain} attempts in a row")
    if len(tried) > max_requeues:
        return Stop(CODES[last.cause], _used_up(len(tried) - 1))
    return Retry(0.0 if last.cause == "stopped" else back_off_s(len(tried)))


def back_off_s(attempts_so_far: int) -> float:
    """Seconds before the next attempt: 1, 2, 4 … at most 60."""
    return min(2.0 ** (attempts_so_far - 1), _LONGEST_WAIT_S)


def committed_step(run_dir: RunDir) -> int:
    """Step of the newest complete checkpoint, by its manifest and the sizes of its files; 0 without one."""
    found = checkpoints.newest(run_dir, contents=False).checkpoint
    return found.step if found else 0


def in_vain(tried: Sequence[Tried]) -> int:
    """How many of the last attempts have saved nothing new."""
    return sum(1 for _ in takewhile(lambda each: not each.advanced, reversed(tried)))


def verdict(run_dir: RunDir, number: int) -> Exit:
    """What a batch script does after attempt `number`, from the files of the run alone.

    Returns:
        `DONE`; `SAVED_AND_STOPPED` or `INFRASTRUCTURE`: queue the job again; `DO_NOT_REQUEUE`.
    """
    tried = history(run_dir, number)
    decision = decide(tried, max_requeues=_max_requeues(run_dir, number), preemptible=True)
    if isinstance(decision, Retry):
        return Exit.SAVED_AND_STOPPED if tried[-1].cause == "stopped" else Exit.INFRASTRUCTURE
    return Exit.DONE if decision.code == Exit.DONE else Exit.DO_NOT_REQUEUE


def history(run_dir: RunDir, number: int) -> tuple[Tried, ...]:
    """What attempt `number` and those before it came to, back to the one that a person asked for; none for number 0."""
    return tuple(_tried(run_dir, each) for each in _by_itself(run_dir, number))


def cause_of(notes: Sequence[ExitNote]) -> str:
    """What ended an attempt, by the notes of its processes: the first failure; where no rank left one, the machine."""
    if failure := attempts.first_failure(notes):
        return failure.cause
    ranks = {note.cause for note in notes if note.who.isdigit()}
    return "stopped" if "stopped" in ranks else "finished" if ranks else "infrastructure"


def _used_up(times: int) -> str:
    if times == 0:
        return "`launch.max_requeues` is 0: it does not start again by itself"
    return f"started again {times} time{'s' if times > 1 else ''}, as often as `launch.max_requeues` allows"


def _by_itself(run_dir: RunDir, number: int) -> tuple[Attempt, ...]:
    """Attempt `number` and those before it, back to the one that a person asked for."""
    chain: list[Attempt] = []
    for each in range(number, 0, -1):
        attempt = attempts.read(run_dir, each) or Attempt(each, "", 0, 0.0)
        chain.append(attempt)
        if attempt.asked_by == "person":
            break
    return tuple(reversed(chain))


def _tried(run_dir: RunDir, attempt: Attempt) -> Tried:
    """An attempt whose launcher did not live to describe it is judged by its notes and by what is saved now."""
    cause = attempt.cause or cause_of(attempts.exits(run_dir, attempt.number))
    to_step = committed_step(run_dir) if attempt.to_step is None else attempt.to_step
    return Tried(cause, attempt.from_step or 0, to_step)


def _max_requeues(run_dir: RunDir, number: int) -> int:
    plan = read_json(run_dir.attempt_plan(number)) or read_json(run_dir.plan) or {}
    return int((plan.get("restart") or {}).get("max_requeues", MAX_REQUEUES))
