"""Nodes that are hosts of their own: a hostname, an address, ports and process numbers each. Needs root."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.slurm.place import HOSTS, hosts_lines
from tests.slurm.settings import Settings, Site

# $1 the node's name, $2 the file that is its /etc/hosts
NODE = 'hostname "$1" && mount --bind "$2" /etc/hosts && exec slurmd -D -N "$1"'


def obstacle() -> str | None:
    """Why this host can have no separate nodes; None when it can."""
    if os.geteuid() != 0:
        return "separate nodes need root"
    done = _quiet(
        "unshare", "--net", "--uts", "--pid", "--mount", "--fork", "--mount-proc", "ip", "link", "add", "type", "veth"
    )
    return f"separate nodes are not possible here: {done.stderr.strip()}" if done.returncode else None


class Machines:
    """The nodes of one lab and the bridge between them."""

    def __init__(self, site: Site, settings: Settings, env: dict[str, str]) -> None:
        self.site, self.settings, self.env = site, settings, env
        self.bridge = f"{site.name}br"
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def connect(self) -> None:
        """The bridge, with this host at its .254, and the nodes' /etc/hosts."""
        own = [line for line in HOSTS.read_text().splitlines() if self.site.hostname not in line.split()[1:]]
        (self.site.directory / "etc" / "hosts").write_text(
            "\n".join([*own, *hosts_lines(self.site, self.settings)]) + "\n"
        )
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("addr", "add", f"{self.site.subnet}.254/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")

    def power_on(self, number: int) -> None:
        """Start a node."""
        node, outside = self.site.node(number), f"{self.site.name}v{number}"
        if not Path("/run/netns", node).exists():
            _ip("netns", "add", node)
            _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", node)
            _ip("link", "set", outside, "master", self.bridge, "up")
            _ip("-n", node, "addr", "add", f"{self.site.subnet}.{number}/24", "dev", "eth0")
            _ip("-n", node, "link", "set", "eth0", "up")
            _ip("-n", node, "link", "set", "lo", "up")
        # nsenter, not `ip netns exec`, which mounts another /sys.
        inside = [
            "nsenter",
            f"--net=/run/netns/{node}",
            "unshare",
            "--uts",
            "--pid",
            "--mount",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]
        with (self.site.directory / "log" / "start.log").open("a") as log:
            self._running[number] = subprocess.Popen(
                [*inside, "bash", "-c", NODE, "bash", node, str(self.site.directory / "etc" / "hosts")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, start_new_session=True,
            )  # fmt: skip

    def power_off(self, number: int) -> None:
        """End everything on a node in one moment, as when its power fails."""
        process = self._running.pop(number)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def cut_off(self, number: int) -> None:
        """Pull the node's cable; what runs on it runs on, and sees the same files."""
        _ip("link", "set", f"{self.site.name}v{number}", "down")

    def plug_in(self, number: int) -> None:
        """Put the cable back; harmless when it is there."""
        _ip("link", "set", f"{self.site.name}v{number}", "up")

    def disconnect(self) -> None:
        """Take the namespaces and the bridge away when nothing runs any more; harmless when there are none."""
        for process in self._running.values():
            process.wait()
        for number in range(1, self.settings.nodes + 1):
            _quiet("ip", "link", "del", f"{self.site.name}v{number}")  # else it goes a moment after its namespace
            _quiet("ip", "netns", "del", self.site.node(number))
        _quiet("ip", "link", "del", self.bridge)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def _quiet(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, check=False, capture_output=True, text=True)
