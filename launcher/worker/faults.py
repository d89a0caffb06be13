"""Why a worker ended: the cause in one word, one line for people, and the exit code."""

from __future__ import annotations

import errno
import json
import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import DataError, EnvironmentFault, Exit, LauncherError
from launcher.runs.attempts import Cause
from launcher.runs.secrets_file import hide

_RANK_CODES: dict[Cause, int] = {
    "finished": Exit.DONE,
    "stopped": Exit.SAVED_AND_STOPPED,
    "infrastructure": Exit.INFRASTRUCTURE,
    "hang": Exit.INFRASTRUCTURE,
    "disk_full": Exit.INFRASTRUCTURE,
}
_STAGE_CODES: dict[Cause, int] = {
    "finished": Exit.DONE,
    "stopped": Exit.SAVED_AND_STOPPED,
    "data": Exit.USAGE,
    "environment": Exit.ENVIRONMENT,
}
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_NO_SPACE = ("no space left on device", "disk quota exceeded")
_TORCH_WRITER = ("unexpected pos", "pytorchstreamwriter failed", "inline_container")
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "cublas_status_alloc_failed")
_FULL_BYTES = 4 * 2**20
_FLAKY = (errno.EIO, errno.ESTALE, errno.EREMOTEIO, errno.ENOTCONN, errno.ETIMEDOUT)
"""What storage answers when it, or the way to it, is broken."""
_LOST_TYPES = ("DistBackendError", "DistNetworkError", "DistStoreError")
_LOST_WORDS = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "application timeout caused pair closure",
    "timed out waiting",
    "is killed by signal",  # a data loader's worker
    "exited unexpectedly",  # the same, found later
    "uncorrectable ecc error",
)
"""What torch says (in a RuntimeError) when another process has gone, or a GPU has broken."""


class Stopped(Exception):
    """All ranks agreed to a stop request."""


class RankFailed(LauncherError):
    """A fault whose cause is known where it is found. Of the message, the first line is the claim, the rest evidence."""

    def __init__(self, cause: Cause, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.cause = cause


@dataclass(frozen=True)
class Ending:
    """How a process ended."""

    cause: Cause
    error: str | None = None
    hint: str | None = None

    @property
    def rank_code(self) -> int:
        """Exit code of a training rank: 0, 85 saved and stopped, 86 the machine failed, 93 it would fail again."""
        return _RANK_CODES.get(self.cause, Exit.DO_NOT_REQUEUE)

    @property
    def stage_code(self) -> int:
        """Exit code of a stage beside the training: 0, 2 data, 4 environment, 85 left on request, 6 anything else."""
        return _STAGE_CODES.get(self.cause, Exit.RUN_FAILED)


def ending_of(error: BaseException, written_to: Path) -> Ending:
    """Classify the error that ended a process.

    Args:
        error: what was raised.
        written_to: a folder on the file system that the process writes to.
    """
    if isinstance(error, Stopped):
        return Ending("stopped")
    known = isinstance(error, RankFailed)  # what it was raised from says less
    if not known and (refused := _refused_by_disk(error, written_to)):
        return refused
    if isinstance(error, LauncherError):
        return Ending(_cause(error), error.message, error.hint)
    if isinstance(error, ModuleNotFoundError):
        return Ending("environment", line(error), f"install `{error.name}` into the environment of the run")
    if out_of_memory(error):
        hint = "lower `training.per_device_train_batch_size` or `data.max_length`, or add `quantization` and `peft`"
        return Ending("out_of_memory", line(error), hint)
    return Ending("infrastructure" if _of_the_machine(error) else "code", line(error))


def _refused_by_disk(error: BaseException, written_to: Path) -> Ending | None:
    """A disk that is full, or that may not be written."""
    if full := disk_full(error, written_to):
        hint = f"free space under {written_to}, then run again"
        return Ending("disk_full", f"the disk is full: {line(full)}", hint)
    if isinstance(error, OSError) and error.errno in FORBIDDEN:
        hint = "make it writable, or name another folder (`--runs`, LAUNCHER_CACHE)"
        return Ending("environment", f"{error.filename}: {(error.strerror or '').lower()}", hint)
    return None


def _cause(error: LauncherError) -> Cause:
    if isinstance(error, RankFailed):
        return error.cause
    if isinstance(error, DataError):
        return "data"
    return "environment" if isinstance(error, EnvironmentFault) else "code"


def line(error: BaseException) -> str:
    """Type and first line of the text, as Python prints them."""
    text = "".join(traceback.format_exception_only(error)).strip().splitlines()
    return text[0].removeprefix(f"{type(error).__module__}.")[:500]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def disk_full(error: BaseException, folder: Path) -> BaseException | None:
    """The error in the chain of `error` that says the file system of `folder` has no space left; None where none does."""
    chain = list(_chain(error))
    by_number = (each for each in chain if isinstance(each, OSError) and each.errno in (errno.ENOSPC, errno.EDQUOT))
    return next(by_number, None) or next((each for each in chain if _tells_of_no_space(each, folder)), None)


def _tells_of_no_space(error: BaseException, folder: Path) -> bool:
    text = str(error).lower()
    if any(words in text for words in _NO_SPACE):
        return True
    # torch's file writer loses the reason; a full file system gives it back.
    return any(words in text for words in _TORCH_WRITER) and _free_bytes(folder) < _FULL_BYTES


def _free_bytes(folder: Path) -> int:
    facts = os.statvfs(next(path for path in (folder, *folder.parents) if path.exists()))
    return facts.f_bavail * facts.f_frsize


def _of_the_machine(error: BaseException) -> bool:
    """Storage that is broken, a process or a connection that is gone: nothing that the same start would meet again."""
    if isinstance(error, OSError) and error.errno in _FLAKY:
        return True
    if isinstance(error, ConnectionError) or type(error).__name__ in _LOST_TYPES:
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _LOST_WORDS)


def out_of_memory(error: BaseException) -> bool:
    """The GPU's memory, or this machine's, did not suffice."""
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)


class ExitNote:
    """`exit-R.json`, written as the last act. Its space is reserved at the start, so that a full disk cannot prevent it."""

    def __init__(self, path: Path, log: Path, root: Path) -> None:
        self._path = path
        self._log = log.relative_to(root)
        self._reserve = path.with_name(f".{path.name}.reserve")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._reserve.write_bytes(b"\0" * 8192)

    def write(self, code: int, ending: Ending) -> None:
        """Write the note; the time in it tells which process failed first."""
        note = {
            "code": code,
            "cause": ending.cause,
            "error": ending.error and hide(ending.error),
            "hint": ending.hint and hide(ending.hint),
            "time": time.time(),
            "log": str(self._log),
        }
        self._reserve.unlink(missing_ok=True)
        draft = self._path.with_name(f".{self._path.name}.draft")
        draft.write_text(json.dumps(note, ensure_ascii=False) + "\n", encoding="utf-8")
        draft.replace(self._path)
