"""Attempts: one per start of a run. Who ran it, and how each of its processes ended."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from launcher.runs.files import read_json, write_json
from launcher.runs.paths import RunDir

Cause = Literal[
    "finished",
    "stopped",  # saved and left on request
    "infrastructure",  # the machine: a killed process, a lost connection, a disk that answers with errors
    "hang",  # a rank did not arrive
    "disk_full",
    "out_of_memory",
    "not_finite",  # a loss or a gradient is not a number
    "data",
    "environment",
    "code",
]
"""What ended a process or an attempt, in one word."""

AskedBy = Literal["person", "policy"]

_WELL = ("finished", "stopped")


@dataclass(frozen=True)
class Turn:
    """The job of a scheduler that an attempt ran in."""

    job: str
    """The scheduler's id."""
    number: int
    """1 for the first; it grows when the job is queued again, and from job to job where several were queued up front."""


@dataclass(frozen=True)
class Attempt:
    """One start of a run. `started` is Unix time in seconds."""

    number: int
    host: str
    pid: int
    started: float
    ended: float | None = None
    """Unix time in seconds; None while it runs, and for ever when the launcher itself was killed."""
    code: int | None = None
    """Exit code of `launcher run`, had it ended here."""
    error: str | None = None
    cause: str | None = None
    """What ended it; see `Cause`."""
    from_step: int | None = None
    """Step of the checkpoint it started from; 0 without one, None before it is known."""
    to_step: int | None = None
    """Step of the newest complete checkpoint when it ended."""
    asked_by: AskedBy = "person"
    """Who wanted it: a person, or the restart policy after an attempt that failed."""
    turn: Turn | None = None
    """None outside a scheduler's job."""
    left_for: str | None = None
    """Why the scheduler wanted its nodes back: `time limit` or `preempted`; None where it did not."""


@dataclass(frozen=True)
class ExitNote:
    """What one process wrote as its last act: `who` is `prepare`, `export` or a rank's number, `time` is Unix time in seconds."""

    who: str
    code: int
    cause: str
    error: str | None
    hint: str | None
    time: float
    log: str | None

    @property
    def failed(self) -> bool:
        """Neither finished nor left on request."""
        return self.cause not in _WELL


def numbers(run_dir: RunDir) -> tuple[int, ...]:
    """Numbers of all attempts, in order; the first is 1."""
    folder = run_dir.attempt(1).parent
    if not folder.is_dir():
        return ()
    return tuple(sorted(int(path.name) for path in folder.iterdir() if path.name.isascii() and path.name.isdigit()))


def begin(run_dir: RunDir, asked_by: AskedBy = "person", turn: Turn | None = None) -> Attempt:
    """Open the next attempt of this process: its folders for facts and logs, and `attempt.json`.

    From then on no older attempt may commit a checkpoint. Only the holder of the run's lock may call it.
    """
    number = _open(run_dir)
    attempt = Attempt(number, platform.node(), os.getpid(), round(time.time(), 3), asked_by=asked_by, turn=turn)
    run_dir.logs(number).mkdir(parents=True, exist_ok=True)
    write_json(_facts(run_dir, number), asdict(attempt))
    return attempt


def starts_from(run_dir: RunDir, attempt: Attempt, step: int) -> Attempt:
    """Note the step of the checkpoint that an attempt starts from; 0 without one."""
    known = replace(attempt, from_step=step)
    write_json(_facts(run_dir, attempt.number), asdict(known))
    return known


def read(run_dir: RunDir, number: int) -> Attempt | None:
    """The facts of one attempt; None when it left none."""
    facts = read_json(_facts(run_dir, number))
    if facts is None:
        return None
    return Attempt(
        number,
        str(facts.get("host")),
        int(facts.get("pid", 0)),
        float(facts.get("started", 0)),
        facts.get("ended"),
        facts.get("code"),
        facts.get("error"),
        facts.get("cause"),
        facts.get("from_step"),
        facts.get("to_step"),
        facts.get("asked_by", "person"),
        Turn(**facts["turn"]) if facts.get("turn") else None,
        facts.get("left_for"),
    )


def end(
    run_dir: RunDir,
    attempt: Attempt,
    code: int,
    error: str | None = None,
    *,
    cause: Cause | None = None,
    to_step: int | None = None,
    left_for: str | None = None,
) -> Attempt:
    """Note how an attempt ended: the exit code of `launcher run`, the first line of its error, and what came of it."""
    now = round(time.time(), 3)
    ended = replace(attempt, ended=now, code=int(code), error=error, cause=cause, to_step=to_step, left_for=left_for)
    write_json(_facts(run_dir, attempt.number), asdict(ended))
    return ended


def exits(run_dir: RunDir, number: int) -> tuple[ExitNote, ...]:
    """Exit notes of one attempt in the order in which its processes ended."""
    found = (_note(path) for path in run_dir.attempt(number).glob("exit-*.json"))
    return tuple(sorted((note for note in found if note), key=lambda note: (note.time, note.who)))


def first_failure(notes: Iterable[ExitNote]) -> ExitNote | None:
    """The earliest failure by time: the ranks that follow it fail because of it."""
    return min((note for note in notes if note.failed), key=lambda note: (note.time, note.who), default=None)


def _open(run_dir: RunDir) -> int:
    """Make the folder of the next attempt. Ranks that were started by hand may do so at the same time."""
    while True:
        number = max(numbers(run_dir), default=0) + 1
        try:
            run_dir.attempt(number).mkdir(parents=True)
        except FileExistsError:
            continue
        return number


def _facts(run_dir: RunDir, number: int) -> Path:
    return run_dir.attempt(number) / "attempt.json"


def _note(path: Path) -> ExitNote | None:
    value: dict[str, Any] | None = read_json(path)
    if value is None or not isinstance(value.get("code"), int):
        return None
    return ExitNote(
        who=path.stem.removeprefix("exit-"),
        code=value["code"],
        cause=str(value.get("cause") or ("finished" if value["code"] == 0 else "code")),
        error=value.get("error"),
        hint=value.get("hint"),
        time=float(value.get("time") or 0),
        log=value.get("log"),
    )
