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

from launcher.runs.secrets_file import hide

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
    """Loses what it cannot write: a line of a log must not end a training. Secrets are named, not written."""

    def write(self, block: Any, /) -> int:
        text = bytes(block)
        shown = hide(text.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        with suppress(OSError):
            written = super().write(shown)
            return written if shown == text else len(text)
        return len(text)


def _lossy(descriptor: int) -> io.TextIOWrapper:
    file = _LossyFile(descriptor, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(file), encoding="utf-8", errors="replace", line_buffering=True)


def forget_torchrun() -> None:
    """Remove torchrun's variables, so that one process trains as a plain script would: without DDP."""
    for name in list(os.environ):
        if name in _DISTRIBUTED or name.startswith(_DISTRIBUTED_PREFIXES):
            del os.environ[name]


def see_one_gpu() -> None:
    """Leave this process the first of its GPUs, before torch is loaded: transformers would spread each batch over all."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.partition(",")[0]
