"""What ended a process, in one word and one line."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from launcher.errors import DataError, EnvironmentFault, RunFailed
from launcher.worker.faults import RankFailed, Stopped, ending_of

TORCH_WRITER = "[enforce fail at inline_container.cc:672] . unexpected pos 180800 vs 180692"
NO_SPACE = Path("/proc")  # a file system without a free block


@pytest.mark.parametrize(
    ("error", "folder", "cause", "rank", "stage"),
    [
        (Stopped(), "/tmp", "stopped", 85, 85),
        (OSError(errno.ENOSPC, "No space left on device"), "/tmp", "disk_full", 86, 6),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "/tmp", "disk_full", 86, 6),
        (RuntimeError(TORCH_WRITER), NO_SPACE, "disk_full", 86, 6),
        (RuntimeError(TORCH_WRITER), "/tmp", "code", 93, 6),
        (DataError("row 3"), "/tmp", "data", 93, 2),
        (EnvironmentFault("no model"), "/tmp", "environment", 93, 4),
        (ModuleNotFoundError("No module named 'x'", name="x"), "/tmp", "environment", 93, 4),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "/tmp", "out_of_memory", 93, 6),
        (MemoryError(), "/tmp", "out_of_memory", 93, 6),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "/tmp", "out_of_memory", 93, 6),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "/tmp", "out_of_memory", 93, 6),
        (OSError(errno.EIO, "Input/output error"), "/tmp", "infrastructure", 86, 6),
        (OSError(errno.ESTALE, "Stale file handle"), "/tmp", "infrastructure", 86, 6),
        (ConnectionResetError("reset"), "/tmp", "infrastructure", 86, 6),
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"), "/tmp", "infrastructure", 86, 6),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "/tmp", "infrastructure", 86, 6),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "/tmp", "code", 93, 6),
        (RankFailed("not_finite", "the loss is nan"), "/tmp", "not_finite", 93, 6),
        (RunFailed("planned 2 ranks"), "/tmp", "code", 93, 6),
        (KeyError("x"), "/tmp", "code", 93, 6),
    ],
    ids=str,
)
def test_cause_and_exit_codes(error: BaseException, folder: str, cause: str, rank: int, stage: int):
    """86 may be tried again as it is, 93 would fail again; a stage tells data from environment."""
    ending = ending_of(error, Path(folder))

    assert (ending.cause, ending.rank_code, ending.stage_code) == (cause, rank, stage)


def test_a_full_disk_is_found_behind_the_error_it_caused():
    """Libraries wrap it; the cause is what a person has to know."""
    error = ValueError("cannot save")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")

    assert ending_of(error, Path("/tmp")).cause == "disk_full"


def test_the_message_is_one_line():
    ending = ending_of(ValueError("first line\nsecond line"), Path("/tmp"))

    assert ending.error == "ValueError: first line"


def test_a_disk_that_may_not_be_written_is_a_fault_of_the_environment(tmp_path):
    """Not a bug of ours: no trace, the path, and what to do."""
    ending = ending_of(OSError(errno.EROFS, "Read-only file system", "/cache/locks"), tmp_path)

    assert (ending.stage_code, ending.error) == (4, "/cache/locks: read-only file system")
    assert "LAUNCHER_CACHE" in str(ending.hint)
