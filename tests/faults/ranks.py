"""One rank that kills itself at a chosen file-system operation. Runs in processes forked by the warm server."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate")


def rank(run_dir: str, victim: int = -1, operation: int = 0, trace: str = "", hold_eval_s: float = 0.0) -> None:
    """A training rank as torchrun would start it.

    Args:
        run_dir: the run.
        victim: the rank that counts its operations.
        operation: the victim dies by SIGKILL before its operation of this number, from 1; 0: it lives.
        trace: a file; the victim writes its operations there, one a line.
        hold_eval_s: evaluations take this many seconds longer, and say in RUN/evaluating-STEP that they have begun.
    """
    from launcher.worker import main

    if int(os.environ["RANK"]) == victim:
        Operations(Path(run_dir), operation, trace)
    if hold_eval_s:
        _hold_evaluations(Path(run_dir), hold_eval_s)
    raise SystemExit(main.main(run_dir, os.getppid()))


def _hold_evaluations(run: Path, seconds: float) -> None:
    from launcher.worker.evaluate import Evaluation

    measure = Evaluation._measure

    def held(self: Evaluation, *args: Any, **kwargs: Any) -> bool:
        (run / f"evaluating-{self.trainer.state.global_step}").touch()
        time.sleep(seconds)
        return measure(self, *args, **kwargs)

    Evaluation._measure = held


class Operations:
    """Counts the operations of this process that change files below `root`, and kills it before one of them.

    Seen are Python's own calls (through its audit hook), fsync and reserving space, and the two writers in native code
    that checkpoints are written with; those count twice, before and after.
    """

    def __init__(self, root: Path, kill_at: int, trace: str) -> None:
        self._root = f"{root.resolve()}/"
        self._numbers = itertools.count(1)
        self._kill_at = kill_at
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if trace else None
        self._wrap_native_writers()
        for name in ("fsync", "fdatasync", "posix_fallocate"):
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[2], int) and args[2] & _WRITING:
            self._note("open", args[0])
        elif event in _CHANGES:
            folder = args[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1
            self._note(event.removeprefix("os."), args[0], folder)

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def noted(target: Any, *args: Any) -> Any:
            self._note(name, target)
            return call(target, *args)

        return noted

    def _wrap_native_writers(self) -> None:
        import safetensors.torch
        import torch

        torch_save, serialize = torch.save, safetensors.torch.serialize_file

        def save(value: Any, target: Any, *args: Any, **kwargs: Any) -> None:
            self._note("torch.save", target)
            torch_save(value, target, *args, **kwargs)
            self._note("saved", target)

        def serialize_file(tensors: Any, target: Any, *args: Any, **kwargs: Any) -> None:
            self._note("safetensors", target)
            serialize(tensors, target, *args, **kwargs)
            self._note("saved", target)

        torch.save, safetensors.torch.serialize_file = save, serialize_file

    def _note(self, name: str, target: Any, folder: int = -1) -> None:
        path = _path(target, folder)
        if path is None or not path.startswith(self._root) or "/logs/" in path:
            return
        number = next(self._numbers)
        if self._trace is not None:
            os.write(self._trace, f"{name} {path.removeprefix(self._root)}\n".encode())
        if number == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def _path(target: Any, folder: int) -> str | None:
    """The absolute path of a path or an open file; None when it has none."""
    try:
        if isinstance(target, int):
            return str(Path(f"/proc/self/fd/{target}").readlink())
        base = Path(f"/proc/self/fd/{folder}").readlink() if isinstance(folder, int) and folder >= 0 else Path.cwd()
        return str(base / os.fsdecode(target))
    except (OSError, TypeError):
        return None
