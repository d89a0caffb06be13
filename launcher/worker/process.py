"""What a worker process owes its surroundings: a log file, an end with its parent, a clean environment."""

from __future__ import annotations

import ctypes
import io
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_DISTRIBUTED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_DISTRIBUTED_PREFIXES = ("LOCAL_", "GROUP_", "ROLE_", "TORCHELASTIC_", "TORCH_NCCL_ASYNC")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; leave at once if that has already happened.

    torchrun starts ranks in sessions of their own, so a killed agent would otherwise leave them running.

    Args:
        parent: the parent's pid, read as the first thing after start.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def redirect_output(path: Path) -> None:
    """Send standard output and error, of libraries in C too, to the end of a file; what a full disk does not take is lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout, sys.stderr = _lossy(1), _lossy(2)


class _LossyFile(io.FileIO):
    """Loses what it cannot write: a line of a log must not end a training."""

    def write(self, block: Any, /) -> int:
        with suppress(OSError):
            return super().write(block)
        return memoryview(block).nbytes


def _lossy(descriptor: int) -> io.TextIOWrapper:
    file = _LossyFile(descriptor, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(file), encoding="utf-8", errors="replace", line_buffering=True)


def forget_torchrun() -> None:
    """Remove torchrun's variables, so that one process trains as a plain script would: without DDP."""
    for name in list(os.environ):
        if name in _DISTRIBUTED or name.startswith(_DISTRIBUTED_PREFIXES):
            del os.environ[name]
