"""The state of a run, derived from its files and its lock; nothing stores it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from launcher.errors import Exit
from launcher.runs import attempts, checkpoints, events, lock, submissions
from launcher.runs.files import read_json
from launcher.runs.paths import RunDir

StateName = Literal["queued", "prepared", "running", "stopped", "failed", "done"]


_HISTORY = ("step", "eval", "score", "commit")


@dataclass(frozen=True)
class State:
    """What a run is doing, and why when that is not plain."""

    name: StateName
    reason: str | None = None


def derive(run_dir: RunDir) -> State:
    """Running while the lock is held; else done, queued, prepared, or what the last attempt's exit notes say."""
    found = by_files(run_dir)
    waiting = submissions.alive(run_dir) if found.name not in ("running", "done") else ()
    return State("queued", f"job {waiting[0].job_id or 'submitted, not answered'}") if waiting else found


def by_files(run_dir: RunDir) -> State:
    """The same without the jobs that were submitted for it: what became of them, only the scheduler knows."""
    tried = attempts.numbers(run_dir)
    if lock.held(run_dir):
        return State("running", _between(run_dir, tried))
    if run_dir.done.exists():
        return State("done")
    return _after(run_dir, tried[-1]) if tried else State("queued", "not started")


def _between(run_dir: RunDir, tried: tuple[int, ...]) -> str | None:
    """What a launcher that holds the lock is about to do, where that is not to train."""
    if run_dir.stop_request.exists():
        return "stopping"
    last = attempts.read(run_dir, tried[-1]) if tried else None
    return "about to try again" if last and last.code not in (None, Exit.DONE, Exit.SAVED_AND_STOPPED) else None


def trained(run_dir: RunDir) -> bool:
    """A step was made, the model was measured, or there is a checkpoint: what follows must be the same experiment."""
    if run_dir.done.exists() or checkpoints.folders(run_dir):
        return True
    return any(event.get("event") in _HISTORY for event in events.read(run_dir.events))


def complete(run_dir: RunDir) -> bool:
    """The training ended with the last step of the data as it is prepared now, and its result is there."""
    ends = [event for event in events.read(run_dir.events) if event.get("event") == "end"]
    last = (read_json(run_dir.data_facts) or {}).get("max_steps")
    finished = bool(ends) and ends[-1].get("state") == "finished" and ends[-1].get("step") == last
    return finished and run_dir.model.exists()


def evaluated(run_dir: RunDir) -> bool:
    """The result of the training that is complete was measured, by the ranks that made it or since."""
    if not complete(run_dir) or not run_dir.evaluation("final").exists():
        return False
    for event in reversed(events.read(run_dir.events)):
        if event.get("event") == "eval" and event.get("when") == "final":
            return True
        if event.get("event") == "start":  # what was measured before is another result
            return False
    return False


def left(run_dir: RunDir) -> tuple[str, ...]:
    """Stages of the plan that are still to be done, in order; all of them where nothing is known."""
    done: dict[str, Callable[[RunDir], bool]] = {
        "prepare": lambda run_dir: run_dir.data_facts.exists(),
        "train": complete,
        "evaluate": evaluated,
        "export": lambda run_dir: run_dir.merged.exists(),
    }
    stages = [str(job.get("stage")) for job in (read_json(run_dir.plan) or {}).get("jobs") or ()]
    return tuple(stage for stage in stages if stage not in done or not done[stage](run_dir))


def _after(run_dir: RunDir, number: int) -> State:
    attempt = attempts.read(run_dir, number)
    if attempt is None or attempt.code is None:
        return _unattended(run_dir, number)
    if attempt.code == Exit.DONE:
        return _between_stages(run_dir)
    if attempt.code == Exit.SAVED_AND_STOPPED:
        return State("stopped", "saved" if checkpoints.folders(run_dir) else "nothing saved yet")
    if attempt.code == Exit.LEFT_AT_ONCE:
        return State("stopped", "left at once")
    return State("failed", attempt.error or f"exit code {attempt.code}")


def _between_stages(run_dir: RunDir) -> State:
    """An attempt has done what it should, and that was not all there is to do."""
    if complete(run_dir) and (behind := left(run_dir)):
        return State("stopped", f"trained; {' and '.join(behind)} to come")
    if not trained(run_dir):  # `launcher prepare`
        return State("prepared")
    return State("stopped", "done before, to go on")  # by a changed recipe


def _unattended(run_dir: RunDir, number: int) -> State:
    """What the ranks say when `launcher run` did not live to say it."""
    notes = attempts.exits(run_dir, number)
    failure = attempts.first_failure(notes)
    if failure:
        return State("failed", (failure.error or failure.cause).splitlines()[0])
    if any(note.code == Exit.SAVED_AND_STOPPED for note in notes):
        return State("stopped", "launcher killed; saved")
    return State("stopped", "killed")
