"""Whether nodes reach one another before their ranks try: a port for each, a name for each, and a token exchanged."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Self

from launcher.errors import MachineFailed

_FIRST_PORT, _LAST_PORT = 20000, 40000
_STEP = 997
"""From one candidate to the next: jobs whose ids follow one another do not try the same ports in turn."""
_TRIES = 200
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_HOSTS = Path("/etc/hosts")
_SECONDS_TO_CONNECT = 5.0
_SECONDS_TO_HANG_UP = 1.0
_SIOCGIFADDR = 0x8915


def candidates(job: int, ephemeral: Path = _EPHEMERAL) -> Iterator[int]:
    """Ports to try, in order, the same for the same job: below those that the system gives to anybody who asks."""
    try:
        first_given = int(ephemeral.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        first_given = _LAST_PORT
    last = min(first_given, _LAST_PORT) if first_given > _FIRST_PORT + _STEP else _LAST_PORT
    span = last - _FIRST_PORT
    yield from (_FIRST_PORT + (job + i * _STEP) % span for i in range(_TRIES))


class Door:
    """A port of this node that answers everybody with a token and the time, as long as it is open."""

    def __init__(self, token: str, ports: Iterator[int]) -> None:
        """Take the first port that is free.

        Raises:
            MachineFailed: none is.
        """
        self._token = token
        self._socket = _bound(ports)
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._answer, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Wakes the thread that waits in accept, which would keep the port until it returns.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _answer(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), caller:
                caller.settimeout(_SECONDS_TO_HANG_UP)
                caller.sendall(f"{self._token} {time.time()}\n".encode())
                caller.recv(1)  # who hangs up first keeps the port in TIME_WAIT; here the ranks will need it


def knock(host: str, port: int, token: str) -> tuple[str | None, float]:
    """Call on a node.

    Returns:
        Why it could not be reached, None where it was; and by how many seconds its clock is ahead of ours.
    """
    asked = time.time()
    try:
        with socket.create_connection((host, port), timeout=_SECONDS_TO_CONNECT) as caller:
            answer = caller.makefile().readline().split()
    except OSError as fault:
        return f"{host}:{port}: {fault.strerror or fault}", 0.0
    if len(answer) != 2 or answer[0] != token:
        return f"{host}:{port} is answered by another process than the node's own", 0.0
    return None, float(answer[1]) - (asked + time.time()) / 2


def own_address(interface: str | None = None) -> tuple[str | None, str]:
    """The address that gloo tells other nodes: that of `interface` where it is named, else what the host's name means.

    Returns:
        The address, None where there is none; and what is wrong with it, empty where nothing is.
    """
    if interface:
        address = _of_interface(interface)
        return address, "" if address else f"it has no interface `{interface}` with an IPv4 address"
    name = socket.gethostname()
    try:
        address = str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as fault:
        return None, f"its own name `{name}` means no address to it: {fault.strerror}"
    if ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return address, f"its own name `{name}` means {address} to it{_line_of(name)}, where no other node reaches it"
    return address, ""


def _bound(ports: Iterator[int]) -> socket.socket:
    """A listening socket on all addresses of this node, IPv6 too where there is any, as torch's own store will be."""
    kinds = [(socket.AF_INET6, "::"), (socket.AF_INET, "")] if socket.has_dualstack_ipv6() else [(socket.AF_INET, "")]
    for port, (family, everywhere) in product(ports, kinds):
        both = family == socket.AF_INET6
        try:
            return socket.create_server((everywhere, port), family=family, dualstack_ipv6=both, backlog=1024)
        except OSError as fault:
            if fault.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    raise MachineFailed(f"none of {_TRIES} ports from {_FIRST_PORT} on is free on {socket.gethostname()}")


def _of_interface(name: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def _line_of(name: str) -> str:
    """` (/etc/hosts:2)`: where a name is given its address."""
    with contextlib.suppress(OSError):
        for number, line in enumerate(_HOSTS.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if name in re.split(r"\s+", line.partition("#")[0].strip())[1:]:
                return f" ({_HOSTS}:{number})"
    return ""
