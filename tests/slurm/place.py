"""A place for a lab beside the others: its number, its ports, and its names in /etc/hosts."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.slurm.settings import Settings, Site

HOSTS = Path("/etc/hosts")
FIRST_PORT, PORTS, PLACES = 17000, 20, 150  # below what the kernel gives out by itself, and below 20000


class Place:
    """A number that no other lab of this machine has while it is held. The kernel frees it when its holders are gone."""

    def __init__(self) -> None:
        self.number, self._name = next(_free())

    @property
    def descriptor(self) -> int:
        """For a process that shall hold the place as well."""
        return self._name.fileno()

    def release(self) -> None:
        """Give the number back."""
        self._name.close()

    def site(self, directory: Path) -> Site:
        """The lab that stands here."""
        return Site(
            directory=directory,
            name=f"lab{self.number}",
            port=FIRST_PORT + PORTS * self.number,
            first_job=1 + 1000 * self.number,
            subnet=f"10.77.{self.number}",
            hostname=socket.gethostname().split(".")[0],
        )


def _free() -> Iterator[tuple[int, socket.socket]]:
    for number in range(PLACES):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0slurm-lab-{number}")  # an abstract name: no file stays behind
            _ports_are_free(FIRST_PORT + PORTS * number)
        except OSError:
            name.close()
        else:
            yield number, name
    raise RuntimeError("no free place for another SLURM lab")


def _ports_are_free(first: int) -> None:
    for port in range(first, first + PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # old connections do not count, listeners do
            probe.bind(("127.0.0.1", port))


def hosts_lines(site: Site, settings: Settings) -> list[str]:
    """The nodes' names and addresses, as /etc/hosts has them."""
    names = [site.node(number) for number in range(1, settings.nodes + 1)]
    if not settings.separate:
        return [" ".join(["127.0.0.1", *names])]
    return [
        f"{site.subnet}.254 {site.hostname}",
        *(f"{site.subnet}.{number} {name}" for number, name in enumerate(names, 1)),
    ]


def add_names(site: Site, settings: Settings) -> None:
    """Let this host resolve the nodes of a plain lab."""
    _edit_hosts(lambda lines: [*lines, *(f"{line} {_mark(site)}" for line in hosts_lines(site, settings))])


def remove_names(site: Site) -> None:
    """Take them out again; harmless when there are none."""
    if _mark(site) in HOSTS.read_text():
        _edit_hosts(lambda lines: [line for line in lines if not line.endswith(_mark(site))])


def names_can_be_added() -> bool:
    """Whether this user may write /etc/hosts."""
    return os.access(HOSTS, os.W_OK)


def _mark(site: Site) -> str:
    return f"# slurm lab {site.directory}"


def _edit_hosts(edit: Callable[[list[str]], list[str]]) -> None:
    """Written in place: in a container the file is mounted, and cannot be replaced. Labs that do so at once take turns."""
    with HOSTS.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = "".join(f"{line}\n" for line in edit(file.read().splitlines()))
        file.seek(0)
        file.write(text)
        file.truncate()
