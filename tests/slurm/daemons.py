"""SLURM's daemons: starting those of one lab, finding and ending them."""

from __future__ import annotations

import os
import signal
import subprocess

from tests.slurm import processes
from tests.slurm.settings import Site
from tests.support.until import until


class Daemons:
    """The daemons of one lab. They go into the background by themselves."""

    def __init__(self, site: Site) -> None:
        self.site = site
        system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.env = {"PATH": system, "SLURM_CONF": str(site.conf)}
        """What a service manager would give them: nothing of the tests' environment reaches jobs by way of them."""

    def start(self, *argv: str) -> None:
        """Start one, and return when it says that it is up."""
        log = self.site.directory / "log" / "start.log"
        with log.open("a") as file:
            done = subprocess.run(
                argv, check=False, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=self.env, cwd=log.parent
            )
        assert done.returncode == 0, f"{argv[0]} did not start:\n{log.read_text()[-2000:]}"

    def start_munge(self) -> None:
        """Start munged, by which all others know each other, with a key of this lab alone."""
        folder = self.site.directory
        key = folder / "etc" / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        run, log = folder / "run", folder / "log"
        files = [
            f"--key-file={key}",
            f"--socket={run}/munge.sock",
            f"--pid-file={run}/munged.pid",
            f"--seed-file={run}/munged.seed",
            f"--log-file={log}/munged.log",
        ]
        self.start("munged", "--force", "--num-threads=4", *files)

    def running(self, name: str, node: str | None = None) -> list[processes.Process]:
        """Those of this name, or the one of a node."""
        found = [p for p in processes.of_lab(self.site.conf) if p.name == name]
        return [p for p in found if node is None or node in str(p).split()]

    def end(self, name: str, how: signal.Signals, node: str | None = None) -> None:
        """Send a signal and wait until they are gone."""
        for process in self.running(name, node):
            process.send(how)
        until(lambda: not self.running(name, node), seconds=30)
