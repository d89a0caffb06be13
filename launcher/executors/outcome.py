"""How a stage ended, from exit notes: the cause in one word, and the error a person needs first, with evidence and the next command."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import DataError, EnvironmentFault, LauncherError, MachineFailed, RunFailed
from launcher.plan import split
from launcher.plan.types import Plan
from launcher.runs import attempts, names
from launcher.runs.attempts import Cause, ExitNote
from launcher.runs.paths import RunDir
from launcher.runs.stopping import SIGNALS

_KINDS: Mapping[str, type[LauncherError]] = {
    "data": DataError,
    "environment": EnvironmentFault,
    "disk_full": EnvironmentFault,
    "infrastructure": MachineFailed,
    "hang": MachineFailed,
}
"""The error of each cause, and with it the exit code; of any other cause it is `RunFailed`."""
_NAME_THE_RANK = ("hang", "not_finite")

_BY_SIGNAL = 128
_TAIL_LINES = 8
_TAIL_BYTES = 64 * 1024
_ROOT_CAUSE = re.compile(r"Root Cause.*?rank\s*:\s*(\d+).*?exitcode\s*:\s*-(\d+)", re.DOTALL)
"""torchrun's own account of the first rank it saw die; the only trace of a rank that was killed."""
_SIGNALLED = re.compile(r"SignalException: Process \d+ got signal")
"""torchrun's last words when it was asked to stop; ranks that had just been started may have left no other trace."""
_NO_MEETING = re.compile(r"^\S*(?:Rendezvous\w*Error|DistNetworkError|DistStoreError)\b", re.MULTILINE)
"""torchrun itself could not bring the ranks together: a port that is taken, a host that does not answer."""


@dataclass(frozen=True)
class Ended:
    """How a stage or an attempt ended, and the error to show where it did not end well."""

    cause: Cause
    error: LauncherError | None = None


def of_error(error: LauncherError) -> Ended:
    """The end of an attempt that the executor itself refuses to go on with."""
    kinds: tuple[tuple[type[LauncherError], Cause], ...] = (
        (DataError, "data"),
        (EnvironmentFault, "environment"),
        (MachineFailed, "infrastructure"),
    )
    return Ended(next((cause for kind, cause in kinds if isinstance(error, kind)), "code"), error)


DOING = {"prepare": "preparing the data", "evaluate": "measuring the result", "export": "merging"}
"""What a stage of one process does."""
_WITHOUT_MEMORY = {
    "evaluate": "lower `evaluation.per_device_eval_batch_size`; the training is not done again",
    "export": "it needs memory for the whole model; a run directory may be copied to a machine that has it",
}


def of_stage(run_dir: RunDir, attempt: int, code: int, stage: str) -> Ended:
    """The end of a stage of one process, `prepare`, `evaluate` or `export`, that left with `code`."""
    if code == 0:
        return Ended("finished")
    log, doing = run_dir.stage_log(attempt, stage), DOING[stage]
    look = _look(run_dir, f"--stage {stage}")
    note = next((each for each in attempts.exits(run_dir, attempt) if each.who == stage), None)
    if -code in SIGNALS if note is None else note.cause == "stopped":
        return Ended("stopped")
    if note is None or note.error is None:
        how = _signal_name(-code) if code < 0 else f"exit code {code}"
        kind, cause = _kind(code)
        return Ended(cause, kind(f"{doing} ended with {how}{_evidence(log)}", hint=look))
    if note.cause in ("data", "environment", "disk_full"):  # a person can put it right: its own words say it all
        return Ended(_cause(note), _KINDS[note.cause](note.error, hint=note.hint or look))
    if note.cause == "out_of_memory" and stage in _WITHOUT_MEMORY:  # no split of the batch helps
        error = EnvironmentFault(f"{doing} ran out of memory: {note.error}", hint=_WITHOUT_MEMORY[stage])
        return Ended("environment", error)
    kind = _KINDS.get(note.cause, RunFailed)
    return Ended(_cause(note), kind(f"{doing} failed: {note.error}{_evidence(log)}", hint=note.hint or look))


def trained(run_dir: RunDir, attempt: int, code: int, plan: Plan, *, ranks: int) -> Ended:
    """The end of a training stage; its error names the first failing rank by time.

    `code`, torchrun's own, says little: 1 for any end but a perfect one, negative for a signal. The ranks' notes say it.
    """
    notes = [note for note in attempts.exits(run_dir, attempt) if note.who.isdigit()]
    log = run_dir.stage_log(attempt, "train")
    killed, failure = _killed_rank(log, notes), attempts.first_failure(notes)
    if killed and killed[1] not in SIGNALS:
        return Ended("infrastructure", _rank_killed(run_dir, attempt, *killed))
    if failure and not killed:
        return Ended(_cause(failure), _rank_failed(run_dir, attempt, failure, plan))
    if killed or any(note.cause == "stopped" for note in notes):
        return Ended("stopped")  # killed before it could hear; others fail because of it
    if len(notes) == ranks:
        return Ended("finished")
    if _asked(code, log):
        return Ended("stopped")
    number = _signal(code)
    how = f"was ended by {_signal_name(number)}" if number else f"left with exit code {code}"
    kind, cause = (MachineFailed, "infrastructure") if _NO_MEETING.search(_text(log)) else _kind(code)
    return Ended(
        cause,
        kind(
            f"torchrun {how} before a rank could say why{_evidence(log)}",
            hint=_goes_on(run_dir) if cause == "infrastructure" else _look(run_dir, "--stage train"),
        ),
    )


def _asked(code: int, log: Path) -> bool:
    """A stop request ended torchrun, or its ranks, before they could say so."""
    return -code in SIGNALS or _SIGNALLED.search(_text(log)) is not None


def tail(log: Path) -> tuple[str, ...]:
    """The last lines of a log that hold any text."""
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in _text(log).split("\n") if line.strip()]
    return tuple(lines[-_TAIL_LINES:])


def _kind(code: int) -> tuple[type[LauncherError], Cause]:
    """Of a process that left no note: a signal came from outside, an exit code from the program."""
    return (MachineFailed, "infrastructure") if _signal(code) else (RunFailed, "code")


def _signal(code: int) -> int:
    """The signal that ended a process, be it that srun or a shell says so: 128 and its number; 0 where none did."""
    return -code if code < 0 else code - _BY_SIGNAL if _BY_SIGNAL < code <= _BY_SIGNAL + signal.NSIG else 0


def _cause(note: ExitNote) -> Cause:
    known: tuple[Cause, ...] = (
        "data",
        "environment",
        "disk_full",
        "infrastructure",
        "hang",
        "out_of_memory",
        "not_finite",
    )
    return next((cause for cause in known if cause == note.cause), "code")


def _rank_failed(run_dir: RunDir, attempt: int, note: ExitNote, plan: Plan) -> LauncherError:
    log = run_dir.rank_log(attempt, int(note.who))
    look = _goes_on(run_dir) if note.cause in ("infrastructure", "hang") else _look(run_dir, f"--rank {note.who}")
    if note.cause == "out_of_memory":
        message = f"rank {note.who} ran out of memory: {note.error}\nlog:   {names.short(log)}"
        return RunFailed(message, hint=split.advice(plan, names.typed(run_dir)))
    said = note.error or note.cause
    # Of a hang or a number that is not finite, the ranks agree on one account, which names the rank itself.
    message = said if note.cause in _NAME_THE_RANK else f"rank {note.who} failed: {said}"
    # Where a person has to put something right, the sentence says what; the trace of how it was met says less.
    message += f"\nlog:   {names.short(log)}" if note.cause in _KINDS else _evidence(log)
    return _KINDS.get(note.cause, RunFailed)(message, hint=_with_command(run_dir, note.hint, look))


def _rank_killed(run_dir: RunDir, attempt: int, rank: int, number: int) -> MachineFailed:
    likely = "; the machine was probably out of memory" if number == signal.SIGKILL else ""
    return MachineFailed(
        f"rank {rank} was ended by {_signal_name(number)}{likely}{_evidence(run_dir.rank_log(attempt, rank))}",
        hint=_goes_on(run_dir),
    )


def _killed_rank(log: Path, notes: Sequence[ExitNote]) -> tuple[int, int] | None:
    """(rank, signal) of the first rank torchrun saw die, when that rank had no time to write a note."""
    known = {note.who for note in notes}  # of several machines, each torchrun names the first of its own
    found = next((each for each in _ROOT_CAUSE.finditer(_text(log)) if each[1] not in known), None)
    return (int(found[1]), int(found[2])) if found else None


def _text(log: Path) -> str:
    """The end of a log; empty without one."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _evidence(log: Path) -> str:
    """Path and last lines of a log, each on a line of its own."""
    lines = tail(log)
    return "\n".join([f"\nlog:   {names.short(log)}", *(f"       | {line}" for line in lines)]) if lines else ""


def _with_command(run_dir: RunDir, hint: str | None, look: str) -> str:
    """A hint that ends in something to type."""
    if hint is None:
        return look
    return hint if "`launcher " in hint else f"{hint}: `launcher run {names.typed(run_dir)}`"


def _goes_on(run_dir: RunDir) -> str:
    return f"`launcher run {names.typed(run_dir)}` goes on from the last checkpoint"


def _look(run_dir: RunDir, which: str) -> str:
    return f"`launcher logs {names.typed(run_dir)} {which}` shows the whole log"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
