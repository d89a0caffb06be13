"""Every error a user can meet, and the exit code each one ends in.

LauncherError             exit 2   base; message and hint are separate
├── UsageError            exit 2   the command line is wrong
├── RecipeError           exit 2   one fault in a recipe, with its place
├── RecipeErrors          exit 2   all faults of a recipe, reported together
├── DataError             exit 2   a data file or row is wrong
├── FitError              exit 3   the plan does not fit the hardware
├── EnvironmentFault      exit 4   this machine lacks something (file, package, disk, model)
├── SubmissionError       exit 5   a scheduler refused the job
│   └── SubmissionErrors  exit 5   all that it would refuse, or accept and never run, reported together
├── RunFailed             exit 6   a stage or rank failed; names the first one
│   ├── MachineFailed     exit 86  a fault of the machine, not of the run: the same may go on; it did, as often as it may
│   └── NoProgress        exit 93  it started again by itself, and several attempts in a row saved nothing new
├── GateFailed            exit 7   an evaluation gate was not met
└── LeftAtOnce            exit 130 a second Ctrl-C ended the run without saving
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of `launcher` and of its workers (0, 85, 86, 93). They are API.

    86 may go on as it is, 93 would fail again, and both say so to a batch script too; 2, 4 and 6 want a person.
    """

    DONE = 0
    USAGE = 2
    DOES_NOT_FIT = 3
    ENVIRONMENT = 4
    SUBMISSION = 5
    RUN_FAILED = 6
    GATE_FAILED = 7
    SAVED_AND_STOPPED = 85
    INFRASTRUCTURE = 86
    DO_NOT_REQUEUE = 93
    LEFT_AT_ONCE = 130


@dataclass(frozen=True)
class Place:
    """Where a value was written: a file with 1-based line and column, or `--set`."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        numbers = [str(n) for n in (self.line, self.column) if n is not None]
        return ":".join([self.source, *numbers])


class LauncherError(Exception):
    """An error with one sentence on what is wrong and, apart from it, what to do."""

    exit_code = Exit.USAGE

    def __init__(self, message: str, *, hint: str | None = None, place: Place | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = place

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class UsageError(LauncherError):
    """The command line names something that does not exist or cannot be combined."""


class RecipeError(LauncherError):
    """One fault in a recipe. `key` is the dotted path, `place` where the value was written."""

    def __init__(self, message: str, *, key: str = "", hint: str | None = None, place: Place | None = None) -> None:
        super().__init__(message, hint=hint, place=place)
        self.key = key

    def __str__(self) -> str:
        key = self.key if self.key.isprintable() else ascii(self.key)[1:-1]
        parts = [str(part) for part in (self.place, key) if part]
        return ": ".join([*parts, self.message])


class RecipeErrors(LauncherError):
    """All faults of one recipe, in the order of their places."""

    def __init__(self, errors: Sequence[RecipeError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = tuple(errors)


class DataError(LauncherError):
    """A data file or a row in it cannot be used."""


class FitError(LauncherError):
    """The planned job needs more than the hardware has."""

    exit_code = Exit.DOES_NOT_FIT


class EnvironmentFault(LauncherError):
    """This machine lacks something the job needs: a file, a package, a model, disk space."""

    exit_code = Exit.ENVIRONMENT


class SubmissionError(LauncherError):
    """A scheduler refused the job."""

    exit_code = Exit.SUBMISSION


class SubmissionErrors(SubmissionError):
    """All that a scheduler would refuse of a run, or accept and never start, with the keys to change."""

    def __init__(self, errors: Sequence[SubmissionError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = tuple(errors)


class RunFailed(LauncherError):
    """A stage or a rank ended with an error."""

    exit_code = Exit.RUN_FAILED


class MachineFailed(RunFailed):
    """The machine failed, not the run: a process was killed, a connection was lost, a disk answered with errors."""

    exit_code = Exit.INFRASTRUCTURE


class NoProgress(RunFailed):
    """Several attempts in a row saved nothing new: the next one would not either."""

    exit_code = Exit.DO_NOT_REQUEUE


class GateFailed(LauncherError):
    """An evaluation gate was not met; nothing is promoted."""

    exit_code = Exit.GATE_FAILED


class LeftAtOnce(LauncherError):
    """A second Ctrl-C: the run was ended without saving."""

    exit_code = Exit.LEFT_AT_ONCE
