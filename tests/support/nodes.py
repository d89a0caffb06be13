"""Nodes for tests: processes that are told they are nodes, and machines of their own in network namespaces."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.until import until

JOB = 4711


@dataclass(frozen=True)
class Left:
    """How a process on a node left."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Machine:
    """A host name, an address, an /etc/hosts and ports of its own, on this host."""

    name: str
    address: str
    pid: int

    def run(self, *argv: str) -> None:
        """Run a command in it."""
        subprocess.run([*self.inside, *argv], check=True, capture_output=True)

    @property
    def inside(self) -> tuple[str, ...]:
        """What enters it."""
        return ("nsenter", "--target", str(self.pid), "--net", "--uts", "--mount", "--")


def slurm(node: int, nodes: int, **more: str) -> dict[str, str]:
    """What SLURM tells the task of a node."""
    return {
        "SLURM_JOB_ID": str(JOB),
        "SLURM_STEP_ID": "0",
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_NODEID": str(node),
        "SLURMD_NODENAME": f"node{node + 1}",
        **more,
    }


def start(argv: Sequence[str], env: Mapping[str, str], inside: Sequence[str] = ()) -> subprocess.Popen[str]:
    """A Python module on a node; `inside` is what enters its machine."""
    command = [*inside, sys.executable, "-m", *argv]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env={**os.environ, **env}, stdout=pipe, stderr=pipe, text=True)


def left(process: subprocess.Popen[str]) -> Left:
    """Wait for it."""
    out, err = process.communicate(timeout=120)
    return Left(process.returncode, out, err)


@contextmanager
def machines(folder: Path, number: int, hosts: Mapping[int, str] | None = None) -> Iterator[list[Machine]]:
    """`node1`, `node2`, … at 10.79.0.1, 10.79.0.2, …, joined by a bridge that nothing else is on.

    All of it ends with the block. Skips the test where nobody may make network namespaces.

    Args:
        folder: for the /etc/hosts of each.
        number: how many.
        hosts: number of a machine, from 1 → its /etc/hosts, where it is not that of the others.
    """
    usual = "".join(f"10.79.0.{each} node{each}\n" for each in range(1, number + 1))
    with ExitStack() as alive:
        switch = alive.enter_context(_namespaces())
        _run(switch, "ip", "link", "add", "bridge", "type", "bridge")
        _run(switch, "ip", "link", "set", "bridge", "up")
        made = []
        for each in range(1, number + 1):
            file = folder / f"hosts-{each}"
            file.write_text("127.0.0.1 localhost\n" + (hosts or {}).get(each, usual))
            made.append(_machine(switch, alive.enter_context(_namespaces()), each, file))
        yield made


def _machine(switch: int, pid: int, number: int, hosts: Path) -> Machine:
    machine = Machine(f"node{number}", f"10.79.0.{number}", pid)
    plug = f"plug{number}"
    _run(switch, "ip", "link", "add", plug, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    _run(switch, "ip", "link", "set", plug, "master", "bridge", "up")
    machine.run("ip", "link", "set", "lo", "up")
    machine.run("ip", "link", "set", "eth0", "up")
    machine.run("ip", "address", "add", f"{machine.address}/24", "dev", "eth0")
    machine.run("hostname", machine.name)
    machine.run("mount", "--bind", str(hosts), "/etc/hosts")
    return machine


@contextmanager
def _namespaces() -> Iterator[int]:
    """A process in namespaces of its own; its pid."""
    command = [
        "unshare",
        "--net",
        "--uts",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        "echo in; exec sleep 600",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"in\n":
            pytest.skip("this host lets nobody make network namespaces")
        until(lambda: Path(f"/proc/{process.pid}/comm").read_text().strip() == "sleep")
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _run(pid: int, *argv: str) -> None:
    subprocess.run(["nsenter", "--target", str(pid), "--net", "--", *argv], check=True, capture_output=True)
