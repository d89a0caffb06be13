"""`python -m launcher.worker.torchrun …`: torch's own launcher of ranks, with its own arguments, that can wait.

Asked to stop, torchrun hands the signal on to its ranks and waits until they have saved and left. By itself it also does
so when they cannot hear yet, and die; and a second signal cuts the wait short, a third ends it, and the kernel ends the
ranks with it.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import FrameType

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import api

from launcher.runs.stopping import SIGNALS

_SECONDS_TO_LISTEN = 20.0


def _once(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - torch's signature
    """What torchrun's own handler does, when the ranks can hear, and once. SIGKILL still ends it, and its ranks."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    until = time.monotonic() + _SECONDS_TO_LISTEN
    while not all(_hears(pid, signum) for pid in _children()) and time.monotonic() < until:
        time.sleep(0.02)
    name = signal.Signals(signum)
    raise api.SignalException(f"Process {os.getpid()} got signal: {name}", sigval=name)


def _children() -> list[int]:
    try:
        tasks = Path("/proc/self/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    except OSError:  # a kernel that does not list them: nobody is waited for
        return []


def _hears(pid: int, signum: int) -> bool:
    """It has a handler for the signal, or has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return True
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return (
        "SigCgt" not in fields
        or fields["State"].split()[0] in "ZX"
        or bool(int(fields["SigCgt"], 16) >> (signum - 1) & 1)
    )


if __name__ == "__main__":
    api._terminate_process_handler = _once  # noqa: SLF001 - torchrun installs what stands under this name
    run.main()
