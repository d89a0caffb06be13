"""Which processes of this machine belong to a lab: told by the SLURM_CONF in their environment."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.until import until

PROC = Path("/proc")
DAEMONS = {"munged", "slurmctld", "slurmscriptd", "slurmd", "slurmstepd", "slurmdbd", "mariadbd", "unshare"}
CLIENTS = {"srun", "salloc", "sbatch", "squeue", "sinfo", "scontrol", "scancel", "sacct", "sacctmgr"}


@dataclass(frozen=True)
class Process:
    """A process as it stood in /proc."""

    pid: int
    parent: int
    name: str
    environment: frozenset[bytes]

    def __str__(self) -> str:
        with suppress(OSError):
            return f"{self.pid} {(PROC / str(self.pid) / 'cmdline').read_bytes().replace(bytes(1), b' ').decode(errors='replace')}"
        return f"{self.pid} {self.name}"

    def send(self, number: signal.Signals) -> None:
        """Signal it; harmless when it is gone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def of_lab(conf: Path) -> list[Process]:
    """Its daemons, its clients, and what its jobs started; not a shell in which somebody set SLURM_CONF."""
    everything, mine = running(), f"SLURM_CONF={conf}".encode()
    found = {p.pid: p for p in everything if mine in p.environment and (p.name in DAEMONS | CLIENTS or in_job(p))}
    found.pop(os.getpid(), None)
    while more := {p.pid: p for p in everything if p.parent in found and p.pid not in found}:
        found |= more  # what a job started may have dropped its environment
    return list(found.values())


def in_job(process: Process) -> bool:
    """Whether SLURM started it as part of a job, the daemon that looks after the step not counted."""
    return process.name not in DAEMONS and any(entry.startswith(b"SLURM_JOB_ID=") for entry in process.environment)


def kill(conf: Path) -> None:
    """KILL all of a lab's processes, and those that they start meanwhile, and wait until none is left."""

    def none_left() -> bool:
        left = of_lab(conf)
        for process in left:
            process.send(signal.SIGKILL)
        return not left

    until(none_left, seconds=30)


def running() -> list[Process]:
    """All of this machine."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it ended meanwhile, or is somebody else's
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(") ")
                state, parent = rest.split()[:2]
                environment = frozenset((entry / "environ").read_bytes().split(b"\0"))
                if state not in "ZX":  # PID 1 of a container may reap late
                    found.append(Process(int(entry.name), int(parent), name, environment))
    return found
