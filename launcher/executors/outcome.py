"""How a stage ended, from exit notes: the error a person needs first, with its evidence and the next command."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.errors import DataError, EnvironmentFault, Exit, LauncherError, RunFailed
from launcher.runs import attempts, names
from launcher.runs.attempts import ExitNote
from launcher.runs.paths import RunDir

_KINDS: Mapping[str, type[LauncherError]] = {
    "data": DataError,
    "environment": EnvironmentFault,
    "disk_full": EnvironmentFault,
}
"""Causes that a person can put right, and with them the exit code; any other end of a stage is `RunFailed`."""

_TAIL_LINES = 8
_TAIL_BYTES = 64 * 1024
_ROOT_CAUSE = re.compile(r"Root Cause.*?rank\s*:\s*(\d+).*?exitcode\s*:\s*-(\d+)", re.DOTALL)
"""torchrun's own account of the first rank it saw die; the only trace of a rank that was killed."""


def prepare_fault(run_dir: RunDir, attempt: int, code: int) -> LauncherError | None:
    """The error of a prepare stage that left with `code`; None when it ended well."""
    if code == 0:
        return None
    log = run_dir.stage_log(attempt, "prepare")
    note = next((each for each in attempts.exits(run_dir, attempt) if each.who == "prepare"), None)
    if note is None or note.error is None:
        how = _signal_name(-code) if code < 0 else f"exit code {code}"
        return RunFailed(f"preparing the data ended with {how}{_evidence(log)}", hint=_look(run_dir, "--stage prepare"))
    hint = note.hint or _look(run_dir, "--stage prepare")
    if note.cause in _KINDS:
        return _KINDS[note.cause](note.error, hint=note.hint)
    return RunFailed(f"preparing the data failed: {note.error}{_evidence(log)}", hint=hint)


def train_code(run_dir: RunDir, attempt: int, code: int, *, ranks: int) -> Exit:
    """`DONE` or `SAVED_AND_STOPPED`.

    `code`, torchrun's own, says little: 1 for any end but a perfect one, negative for a signal. The ranks' notes say it.

    Raises:
        LauncherError: a rank failed; the message names the first one by time.
    """
    notes = [note for note in attempts.exits(run_dir, attempt) if note.who != "prepare"]
    if killed := _killed_rank(run_dir.stage_log(attempt, "train"), notes):
        raise _rank_killed(run_dir, attempt, *killed)
    if failure := attempts.first_failure(notes):
        raise _rank_failed(run_dir, attempt, failure)
    if any(note.code == Exit.SAVED_AND_STOPPED for note in notes):
        return Exit.SAVED_AND_STOPPED
    if len(notes) == ranks:
        return Exit.DONE
    how = f"was ended by {_signal_name(-code)}" if code < 0 else f"left with exit code {code}"
    raise RunFailed(
        f"torchrun {how} before a rank could say why{_evidence(run_dir.stage_log(attempt, 'train'))}",
        hint=f"the same command goes on from the last checkpoint; {_look(run_dir, '--stage train')}",
    )


def tail(log: Path) -> tuple[str, ...]:
    """The last lines of a log that hold any text."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.split("\n") if line.strip()]
    return tuple(lines[-_TAIL_LINES:])


def _rank_failed(run_dir: RunDir, attempt: int, note: ExitNote) -> LauncherError:
    log = run_dir.rank_log(attempt, int(note.who))
    return _KINDS.get(note.cause, RunFailed)(
        f"rank {note.who} failed: {note.error or note.cause}{_evidence(log)}",
        hint=note.hint or _look(run_dir, f"--rank {note.who}"),
    )


def _rank_killed(run_dir: RunDir, attempt: int, rank: int, number: int) -> RunFailed:
    likely = "; the machine was probably out of memory" if number == signal.SIGKILL else ""
    return RunFailed(
        f"rank {rank} was ended by {_signal_name(number)}{likely}{_evidence(run_dir.rank_log(attempt, rank))}",
        hint=f"the same command goes on from the last checkpoint; {_look(run_dir, f'--rank {rank}')}",
    )


def _killed_rank(log: Path, notes: Sequence[ExitNote]) -> tuple[int, int] | None:
    """(rank, signal) of the first rank torchrun saw die, when that rank had no time to write a note."""
    try:
        found = _ROOT_CAUSE.search(log.read_text(errors="replace"))
    except OSError:
        return None
    if found is None or any(note.who == found[1] for note in notes):
        return None
    return int(found[1]), int(found[2])


def _evidence(log: Path) -> str:
    """Path and last lines of a log, each on a line of its own."""
    lines = tail(log)
    return "\n".join([f"\nlog:   {names.short(log)}", *(f"       | {line}" for line in lines)]) if lines else ""


def _look(run_dir: RunDir, which: str) -> str:
    return f"`launcher logs {names.typed(run_dir)} {which}` shows the whole log"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
