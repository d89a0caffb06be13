"""A real SLURM cluster on this machine, for tests: slurmctld, slurmd, srun and all, up in a fraction of a second.

    lab = Lab.start(folder)                     # 4 nodes of 8 CPUs and 4 GPUs, which are all this host
    number = lab.sbatch("#!/bin/bash\nsrun hostname", "-N2")
    lab.wait(number, "COMPLETED")
    lab.stop()                                  # nothing stays behind, whatever the jobs are doing

Partitions: `main`, `low` and `low_nograce` (preempted by the others), `high`, `short` (one minute).
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.slurm import accounting, place, processes
from tests.slurm.daemons import Daemons
from tests.slurm.machines import Machines, obstacle
from tests.slurm.settings import Settings, Site, write
from tests.support.until import until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
ROOT = Path(__file__).parents[2]
ENDED = frozenset(
    {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "DEADLINE", "BOOT_FAIL"}
)
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def why_not(settings: Settings) -> str | None:
    """Why no such lab can be had on this machine; None when it can."""
    needed = (*PROGRAMS, *(accounting.PROGRAMS if settings.accounting else ()))
    missing = [name for name in needed if shutil.which(name, path=PATH) is None]
    if missing:
        return f"SLURM is not installed ({', '.join(missing)}); `python -m tests.slurm.install` does it as root on Debian and Ubuntu"
    if settings.separate:
        return obstacle()
    return (
        None
        if place.names_can_be_added()
        else f"this user cannot write {place.HOSTS}, so the nodes' names would lead nowhere"
    )


class Lab:
    """A cluster that is up. Nodes are counted from 1."""

    def __init__(self, site: Site, settings: Settings, held: place.Place | None = None) -> None:
        self.site, self.settings, self._held = site, settings, held
        outside = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLURM", "SBATCH", "SRUN", "SALLOC"))
        }
        self.env = {**outside, "PATH": PATH, "SLURM_CONF": str(site.conf)}
        """For clients: what a login node of this cluster has."""
        self._janitor: subprocess.Popen[bytes] | None = None
        self._daemons = Daemons(site)
        self._machines = Machines(site, settings, self._daemons.env) if settings.separate else None

    # Up and down

    @classmethod
    def start(cls, directory: Path, settings: Settings | None = None) -> Lab:
        """Bring a lab up in a folder, which stays when it is down; raises when it is not up within seconds."""
        held = place.Place()
        lab = cls(held.site(directory.resolve()), settings or Settings(), held)
        try:
            lab._bring_up()
        except BaseException:
            lab.stop()
            raise
        return lab

    def stop(self) -> None:
        """Take it down at once, jobs and all; harmless when it is down."""
        processes.kill(self.site.conf)
        if self._machines:
            self._machines.disconnect()
        place.remove_names(self.site)
        if self._janitor:
            self._janitor.kill()
            self._janitor.wait()
        if self._held:
            self._held.release()

    def _bring_up(self) -> None:
        if len(str(self.site.directory)) > 60:
            raise ValueError(f"{self.site.directory}: too long a path for the sockets below it")
        write(self.site, self.settings)
        self._leave_a_janitor()
        if self._machines:
            self._machines.connect()
        else:
            place.add_names(self.site, self.settings)
        self._daemons.start_munge()
        if self.settings.accounting:
            accounting.start(self.site, self._daemons.env)
        self.start_controller()
        for number in range(1, self.settings.nodes + 1):
            self._start_node(number)
        self.wait_for_nodes()

    def _start_node(self, number: int) -> None:
        if self._machines:
            self._machines.power_on(number)
        else:
            self._daemons.start("slurmd", "-N", self.site.node(number))

    def _leave_a_janitor(self) -> None:
        """Start a process that takes the lab down when this one is gone, however it went."""
        (self.site.directory / "lab.json").write_text(
            json.dumps({"site": asdict(self.site), "settings": asdict(self.settings)}, default=str)
        )
        self._janitor = subprocess.Popen(
            [sys.executable, "-m", "tests.slurm.janitor", str(os.getpid()), str(self.site.directory)],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, pass_fds=[self._held.descriptor],
        )  # fmt: skip

    @classmethod
    def of(cls, directory: Path) -> Lab:
        """The lab that was started in a folder, by whatever process."""
        saved = json.loads((directory / "lab.json").read_text())
        site = {**saved["site"], "directory": directory}
        return cls(Site(**site), Settings(**{**saved["settings"], "extra": tuple(saved["settings"]["extra"])}))

    # What a person would type

    def run(
        self, argv: Sequence[object], *, check: bool = True, timeout: float = 60, **options
    ) -> subprocess.CompletedProcess[str]:
        """Run a client, or anything that shall see this cluster, to its end; raises with its output when it fails."""
        env = {**self.env, **options.pop("env", {})}
        words = [str(word) for word in argv]
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=timeout, env=env, **options)
        assert not check or done.returncode == 0, (
            f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def sbatch(self, script: str | Path, *options: object, cwd: Path | None = None) -> int:
        """Submit a script, its text or its file, and return the job's number. Its log goes to the lab's folder unless said otherwise."""
        words = ["sbatch", "--parsable", f"--output={self.site.directory}/log/job-%j.out", *options]
        if isinstance(script, Path):
            return int(self.run([*words, script], cwd=cwd).stdout.split(";")[0])
        return int(self.run(words, input=script, cwd=cwd).stdout.split(";")[0])

    def log(self, number: int) -> str:
        """What a job's batch script has printed so far."""
        path = Path(self.job(number)["StdOut"])
        return path.read_text() if path.exists() else ""

    def jobs(self, number: int) -> list[dict[str, str]]:
        """What the controller knows of a job, an entry for each task of an array; it forgets nothing while the lab is up."""
        lines = self.run(["scontrol", "-o", "show", "job", number]).stdout.splitlines()
        return [dict(re.findall(r"([A-Z][\w/:]*)=(.*?) *(?= [A-Z][\w/:]*=|$)", line)) for line in lines]

    def job(self, number: int) -> dict[str, str]:
        """The same, of a job that is no array."""
        return self.jobs(number)[0]

    def wait(self, number: int, states: str | Iterable[str] = ENDED, *, timeout: float = 60) -> dict[str, str]:
        """Wait until a job is in one of these states; fails at once when it ends in another."""
        wanted = {states} if isinstance(states, str) else set(states)

        def there() -> dict[str, str] | None:
            job = self.job(number)
            assert job["JobState"] in wanted or job["JobState"] not in ENDED, (
                f"not {wanted}:\n{job}\n{self.log(number)}"
            )
            return job if job["JobState"] in wanted else None

        return until(there, seconds=timeout)

    def nodes(self) -> dict[str, str]:
        """State of each node by its name: `idle`, `mixed`, `down*` …"""
        lines = self.run(["sinfo", "-h", "-N", "-p", "main", "-o", "%N %T"]).stdout.splitlines()
        return dict(line.split() for line in lines)

    def processes(self) -> list[processes.Process]:
        """All of this cluster: its daemons, its clients, and what jobs started."""
        return processes.of_lab(self.site.conf)

    def processes_of_jobs(self) -> list[processes.Process]:
        """Processes that jobs started and that are still there, whether their job is or not."""
        return [
            p for p in self.processes() if p.name not in processes.DAEMONS | processes.CLIENTS or processes.in_job(p)
        ]

    # What goes wrong in a site's life

    def stop_controller(self) -> None:
        """slurmctld goes down, saving its state; clients then block for ten seconds and more, and jobs run on."""
        self._daemons.end("slurmctld", signal.SIGTERM)

    def start_controller(self) -> None:
        """slurmctld comes up, with the state it saved."""
        self._daemons.start("slurmctld")

    def kill_slurmd(self, number: int) -> None:
        """A node's daemon dies. Its jobs' processes live on: this is no power failure."""
        self._daemons.end("slurmd", signal.SIGKILL, self.site.node(number))

    def start_slurmd(self, number: int) -> None:
        """It comes back."""
        self._start_node(number)

    def power_off(self, number: int, *, noticed: bool = True) -> None:
        """A separate node loses its power. `noticed`: the controller is told, as by a site's health check; else it takes half a minute."""
        self._machines.power_off(number)
        if noticed:
            self.give_up(number)

    def give_up(self, number: int) -> None:
        """The controller takes a node for dead: jobs on it are queued again."""
        self.run(["scontrol", "update", f"nodename={self.site.node(number)}", "state=down", "reason=silent"])

    def cut_off(self, number: int) -> None:
        """A separate node loses its network: its jobs' processes live on, and see the same files."""
        self._machines.cut_off(number)

    def plug_in(self, number: int) -> None:
        """It has it again."""
        self._machines.plug_in(number)

    def power_on(self, number: int) -> None:
        """It comes back, empty."""
        self._machines.power_on(number)

    def wait_for_nodes(self, *, timeout: float = 30) -> None:
        """Wait until every node is idle."""
        until(lambda: set(self.nodes().values()) == {"idle"}, seconds=timeout)

    def reset(self) -> None:
        """End all jobs, whatever they do about it, and mend what was broken: afterwards every node is idle."""
        if not self._daemons.running("slurmctld"):
            self.start_controller()
        self.run(["scancel", "--user", getpass.getuser()])
        until(self._no_jobs, seconds=60)
        for number in range(1, self.settings.nodes + 1):
            if self._machines:
                self.plug_in(number)
            if not self._daemons.running("slurmd", self.site.node(number)):
                self._start_node(number)
        for name, state in self.nodes().items():
            if state.startswith(("down", "drain", "fail")):
                self.run(["scontrol", "update", f"nodename={name}", "state=resume"], check=False)
        self.wait_for_nodes()

    def _no_jobs(self) -> bool:
        """KILL what jobs left, rather than wait for KillWait."""
        for process in self.processes_of_jobs():
            process.send(signal.SIGKILL)
        return not self.run(["squeue", "-h", "-o", "%A"]).stdout
