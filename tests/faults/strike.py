"""Kill ranks at a chosen moment, from outside, and see that nothing of them stays."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

from tests.faults.bed import MARK
from tests.support import warm

_LOOK_S = 0.0005
_AGENT_S = 0.1
"""torchrun looks at its ranks ten times a second and then sends SIGTERM to those that are left."""
_GRACE_S = 1.5
"""The time that survivors get after it (torchrun: 30 s)."""
_LEFT_S = 10.0


@dataclass(frozen=True)
class Aim:
    """Which ranks to kill, and when."""

    kind: Literal["save", "operation", "time"]
    number: int
    """Of the save (of this attempt), or of the file-system operation (of rank `victim`, or of rank 0)."""
    delay_s: float
    """Seconds after that save began, or after the start."""
    victim: int | None
    """The rank to kill; None: all of them."""

    def __str__(self) -> str:
        who = "all" if self.victim is None else f"rank {self.victim}"
        when = {
            "save": f"{self.delay_s * 1e3:.0f} ms into save {self.number}",
            "operation": f"at operation {self.number}",
            "time": f"{self.delay_s * 1e3:.0f} ms after the start",
        }
        return f"{who} {when[self.kind]}"


def draw(random: Random, ranks: int, *, save_s: float, attempt_s: float, operations: int) -> Aim:
    """60 % of the kills are aimed into a save: half by the clock, half at one of its operations; the rest anywhere."""
    victim = None if ranks == 1 else random.choices([None, 0, ranks - 1], [6, 2, 2])[0]
    if random.random() < 0.3:
        return Aim("save", random.randint(1, 3), random.uniform(0, save_s), victim)
    if random.random() < 0.3 / 0.7:
        return Aim("operation", random.randint(1, operations), 0.0, victim)
    return Aim("time", 0, random.uniform(0, attempt_s), victim)


def strike(job: warm.Job, aim: Aim, saves: Callable[[], int]) -> tuple[warm.Result, bool]:
    """Wait for the moment, kill, and collect what is left.

    Args:
        job: the ranks.
        aim: whom and when.
        saves: how many saves this attempt has begun.

    Returns:
        The ranks' ends, and whether the kill came before the end of whom it was meant for.
    """
    victims = job.pids if aim.victim is None else (job.pids[aim.victim],)
    first = job.pids[aim.victim or 0]
    if aim.kind == "operation":  # it kills itself
        _until(lambda: not alive(first), job)
    else:
        if aim.kind == "save":
            _until(lambda: saves() >= aim.number, job)
        _until_time(time.monotonic() + aim.delay_s, job)
    send(victims, signal.SIGKILL)
    if len(victims) < len(job.pids):
        _end_survivors(job)
    result = job.wait(30)
    hit = result.codes[aim.victim or 0] == -signal.SIGKILL
    return result, hit


def _end_survivors(job: warm.Job) -> None:
    """What torchrun's agent does with the other ranks, only less patient."""
    time.sleep(_AGENT_S)
    send(job.pids, signal.SIGTERM)
    _until_time(time.monotonic() + _GRACE_S, job)
    job.kill()


def _until(condition: Callable[[], bool], job: warm.Job, seconds: float = 60.0) -> None:
    """Until it is true, or no rank is left."""
    deadline = time.monotonic() + seconds
    while not condition() and any(alive(pid) for pid in job.pids):
        assert time.monotonic() < deadline, f"not true within {seconds:g} s"
        time.sleep(_LOOK_S)


def _until_time(moment: float, job: warm.Job) -> None:
    while (left := moment - time.monotonic()) > 0 and any(alive(pid) for pid in job.pids):
        time.sleep(min(left, 0.01))


def send(pids: tuple[int, ...], number: signal.Signals) -> None:
    """Send a signal to each process that is there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def alive(pid: int) -> bool:
    """The process runs; one that has ended and was not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def left_over(root: Path) -> list[int]:
    """Processes of a trial that still live after 10 seconds: told by the mark in their environment, or by their log."""
    deadline = time.monotonic() + _LEFT_S
    while (found := _of_trial(root)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _of_trial(root: Path) -> list[int]:
    mark = f"{MARK}={root}".encode()
    inside = f"{root.resolve()}/"
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            output = str(Path(f"/proc/{entry.name}/fd/1").readlink())
            environment = Path(f"/proc/{entry.name}/environ").read_bytes().split(b"\0")
            if output.startswith(inside) or mark in environment:
                found.append(int(entry.name))
    return found
