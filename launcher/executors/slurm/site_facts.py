"""What a site's SLURM says about itself: `scontrol show config|partition|node`, and `sacctmgr` where there is accounting."""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from launcher.errors import EnvironmentFault
from launcher.executors.slurm import client

_PAIR = re.compile(r"([A-Za-z][\w/:-]*)=(.*?)(?=\s+[A-Za-z][\w/:-]*=|\s*$)")
_GPU = re.compile(r"gpu(?::(?P<type>[^:(,]+))?:(?P<count>\d+)(?:\([^)]*\))?")
_ACCOUNTS_TIMEOUT_S = 15.0
_LIMITS_TIMEOUT_S = 10.0
_UP = ("IDLE", "MIXED", "ALLOCATED", "COMPLETING")
_AWAY = frozenset({"DRAIN", "DOWN", "FAIL", "MAINT", "NOT_RESPONDING", "RESERVED"})
_NOTHING = ("(null)", "N/A", "NONE", "none", "")


@dataclass(frozen=True)
class Partition:
    """A partition. None stands for no limit, and for anybody."""

    name: str
    default: bool
    up: bool
    max_time_s: int | None
    max_nodes: int | None
    grace_s: int
    preempt_mode: str
    tier: int
    accounts: tuple[str, ...] | None
    qos: tuple[str, ...] | None
    state: str = "UP"
    denied_accounts: tuple[str, ...] = ()
    min_nodes: int = 0
    default_time_s: int | None = None
    """Limit of a job that asks for none."""
    max_cpus: int | None = None
    """Most cores of a job on each node."""
    max_memory_mib: int | None = None
    """Most memory of a job on each node."""


@dataclass(frozen=True)
class Node:
    """A node as SLURM counts it; `gpus` by the type in its gres, '' for none."""

    name: str
    cpus: int
    memory_mib: int
    gpus: dict[str, int] = field(hash=False)
    features: frozenset[str]
    partitions: frozenset[str]
    up: bool = True
    """It runs jobs, or can at once: it is not down, drained, reserved or silent."""

    @property
    def gpu_count(self) -> int:
        """GPUs of all types."""
        return sum(self.gpus.values())


@dataclass(frozen=True)
class SiteFacts:
    """A whole site."""

    config: dict[str, str]
    partitions: dict[str, Partition]
    nodes: tuple[Node, ...]
    accounts: tuple[str, ...] | None
    """Accounts that this person may charge; None where the site keeps none."""
    pyxis: bool = False
    """`srun` has Pyxis' options."""

    def nodes_of(self, partition: str) -> tuple[Node, ...]:
        """The nodes of a partition."""
        return tuple(node for node in self.nodes if partition in node.partitions)

    def seconds(self, key: str) -> int:
        """A time of the configuration, `KillWait`; 0 where it does not say."""
        found = re.match(r"\d+", self.config.get(key, ""))
        return int(found.group()) if found else 0

    @property
    def default_partition(self) -> str | None:
        """Where jobs go that name none."""
        return next((each.name for each in self.partitions.values() if each.default), None)


def limits() -> SiteFacts:
    """Ask SLURM for what limits a job: all of it but the accounts and Pyxis, hidden partitions too.

    Raises:
        EnvironmentFault: there is no SLURM on this machine, or it refuses to answer.
        Unreachable: its controller does not answer; where nothing listens, that is known at once.
    """
    said = client.call("scontrol", "ping", timeout_s=_LIMITS_TIMEOUT_S).out
    if " is DOWN" in said and " is UP" not in said:
        raise client.Unreachable(f"slurmctld does not answer: {said.splitlines()[0]}", hint=client.LATER)
    return SiteFacts(
        config=config(_said("scontrol", "show", "config")),
        partitions={each.name: each for each in partitions(_said("scontrol", "-a", "-o", "show", "partition"))},
        nodes=tuple(nodes(_said("scontrol", "-a", "-o", "show", "node"))),
        accounts=None,
    )


def look() -> SiteFacts:
    """Ask SLURM.

    Raises:
        EnvironmentFault: there is no SLURM on this machine, or it refuses to answer.
        Unreachable: its controller does not answer.
    """
    return SiteFacts(
        config=config(_said("scontrol", "show", "config")),
        partitions={each.name: each for each in partitions(_said("scontrol", "-o", "show", "partition"))},
        nodes=tuple(nodes(_said("scontrol", "-o", "show", "node"))),
        accounts=accounts(),
        pyxis="--container-image" in client.call("srun", "--help").out,
    )


def _said(*argv: str) -> str:
    answer = client.call(*argv)
    if answer.code:
        raise EnvironmentFault(f"`{' '.join(argv)}`: {answer.error}", hint="does `sinfo` answer here?")
    return answer.out


def accounts() -> tuple[str, ...] | None:
    """Accounts that this person may charge; None at the many sites that have no accounting, or none that answers."""
    return _granted("Account")


def qos() -> tuple[str, ...] | None:
    """The same for qualities of service."""
    return _granted("QOS")


def qos_flags(name: str) -> str:
    """Flags of a quality of service, as sacctmgr lists them; empty where it does not say."""
    return _accounting("qos", f"name={name}", "flags") or ""


def _granted(column: str) -> tuple[str, ...] | None:
    said = _accounting("assoc", f"user={getpass.getuser()}", column)
    return None if said is None else tuple(dict.fromkeys(re.findall(r"[^\s,]+", said)))


def _accounting(what: str, which: str, column: str) -> str | None:
    """A column of `sacctmgr show`; None where there is no accounting, or none that answers."""
    argv = ("sacctmgr", "-nP", "show", what, "where", which, f"format={column}")
    try:
        answer = client.call(*argv, timeout_s=_ACCOUNTS_TIMEOUT_S)
    except (EnvironmentFault, client.Unreachable):
        return None
    return None if answer.code else answer.out


def reservations() -> tuple[str, ...]:
    """Names of the reservations there are.

    Raises:
        Unreachable: the controller does not answer.
    """
    return tuple(
        re.findall(r"^ReservationName=(\S+)", client.call("scontrol", "-o", "show", "reservation").out, re.MULTILINE)
    )


def config(text: str) -> dict[str, str]:
    """`scontrol show config`: name → value."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def partitions(text: str) -> Iterator[Partition]:
    """`scontrol -o show partition`."""
    for each in _records(text, "PartitionName"):
        most = each.get("MaxNodes", "UNLIMITED")
        whole = each.get("TotalNodes", "")
        limits = [int(count) for count in (most, whole) if count.isdigit()]
        yield Partition(
            name=each["PartitionName"],
            default=each.get("Default") == "YES",
            up=each.get("State", "UP") == "UP",
            max_time_s=seconds(each.get("MaxTime", "UNLIMITED")),
            max_nodes=min(limits, default=None),
            grace_s=int(each.get("GraceTime", "0")),
            preempt_mode=each.get("PreemptMode", "OFF"),
            tier=int(each.get("PriorityTier", "1")),
            accounts=_names(each.get("AllowAccounts", "ALL")),
            qos=_names(each.get("AllowQos", "ALL")),
            state=each.get("State", "UP"),
            denied_accounts=tuple(_words(each.get("DenyAccounts", ""))),
            min_nodes=_number(each.get("MinNodes")) or 0,
            default_time_s=seconds(each.get("DefaultTime", "NONE")) or seconds(each.get("MaxTime", "UNLIMITED")),
            max_cpus=_number(each.get("MaxCPUsPerNode")),
            max_memory_mib=_number(each.get("MaxMemPerNode")),
        )


def nodes(text: str) -> Iterator[Node]:
    """`scontrol -o show node`."""
    for each in _records(text, "NodeName"):
        yield Node(
            name=each["NodeName"],
            cpus=int(each.get("CPUEfctv") or each["CPUTot"]),
            memory_mib=int(each["RealMemory"]),
            gpus=_gpus(each.get("Gres", "")),
            features=frozenset(_words(each.get("AvailableFeatures", ""))),
            partitions=frozenset(_words(each.get("Partitions", ""))),
            up=_is_up(each.get("State", "")),
        )


def _is_up(state: str) -> bool:
    """`IDLE`, `MIXED+PLANNED`, `IDLE+CLOUD+POWERED_DOWN`; not `DOWN*`, `IDLE+DRAIN`, `IDLE*` (it does not answer)."""
    base, *flags = state.split("+")
    return base in _UP and _AWAY.isdisjoint(flags)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _records(text: str, first: str) -> Iterator[dict[str, str]]:
    lines = (line for line in text.splitlines() if line.startswith(f"{first}="))
    return (dict(_PAIR.findall(line)) for line in lines)


def _gpus(gres: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for found in _GPU.finditer(gres):
        kind = found["type"] or ""
        counts[kind] = counts.get(kind, 0) + int(found["count"])
    return counts


def _words(text: str) -> list[str]:
    return [] if text in _NOTHING else text.split(",")


def _names(text: str) -> tuple[str, ...] | None:
    return None if text == "ALL" else tuple(text.split(","))


def seconds(time: str) -> int | None:
    """SLURM's `D-HH:MM:SS`, `HH:MM:SS` or `MM:SS` in seconds; None for `UNLIMITED`."""
    days, _, clock = time.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in [*parts, days or "0"]):
        return None
    total = 0
    for part in parts:
        total = total * 60 + int(part)
    return total + int(days or 0) * 86400


def clock(time_s: int) -> str:
    """Seconds as SLURM writes them: `1-00:00:00`, `04:30:00`."""
    days, rest = divmod(time_s, 86400)
    written = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}-{written}" if days else written


def types(found: Iterable[Node]) -> list[str]:
    """GPU types of some nodes, as their gres call them."""
    return sorted({kind for node in found for kind in node.gpus if kind})
