"""Limits of partitions and nodes, read from SLURM: what they exceed is refused, or waits for ever where SLURM accepts it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launcher.cluster.schema import Site
from launcher.executors.slurm.asked import Asked
from launcher.executors.slurm.blame import Fault
from launcher.executors.slurm.doctor import gib
from launcher.executors.slurm.site_facts import Node, Partition, SiteFacts, clock, reservations, types
from launcher.text import counted, nearest_of


@dataclass(frozen=True)
class Target:
    """A partition that a job may go to, and its nodes."""

    partition: Partition
    nodes: tuple[Node, ...]

    @property
    def name(self) -> str:
        """For messages."""
        return f"partition `{self.partition.name}`"


def targets(site: Site, facts: SiteFacts) -> tuple[list[Target], list[Fault]]:
    """The partitions of the queue; and those that do not exist."""
    there = ", ".join(facts.partitions)
    if site.queue.partition is None and facts.default_partition is None:
        return [], [Fault("partition", "this site has no default partition", f"name one of its partitions: {there}")]
    wanted = (site.queue.partition or facts.default_partition or "").split(",")
    found = [Target(facts.partitions[name], facts.nodes_of(name)) for name in wanted if name in facts.partitions]
    missing = [
        Fault("partition", f"no partition `{name}`", nearest_of(name, facts.partitions, f"partitions here: {there}"))
        for name in wanted
        if name not in facts.partitions
    ]
    return found, missing


def unknown(asked: Asked, where: Sequence[Target], site: Site, facts: SiteFacts) -> Iterator[Fault]:
    """Names that SLURM does not know; its own verdict would stop at the first.

    Raises:
        Unreachable: the controller does not answer.
    """
    if strangers := sorted(asked.exclude - {node.name for node in facts.nodes}):
        names = ", ".join(f"`{name}`" for name in strangers)
        yield Fault("exclude", f"no node {names}", "remove it; `sinfo -N` lists the nodes")
    features = {feature for one in where for node in one.nodes for feature in node.features}
    for name in re.findall(r"[A-Za-z_][\w.-]*", site.queue.constraint or ""):
        if where and name not in features:
            listed = f"features there: {', '.join(sorted(features))}" if features else "remove it: they have none"
            yield Fault("constraint", f"no node of its partition has `{name}`", nearest_of(name, features, listed))
    for name in site.queue.reservation.split(",") if site.queue.reservation else ():
        if name not in (there := reservations()):
            listed = f"reservations: {', '.join(there)}" if there else "remove it: there are none"
            yield Fault("reservation", f"no reservation `{name}`, or it is over", nearest_of(name, there, listed))


def faults(asked: Asked, where: Sequence[Target], site: Site, facts: SiteFacts) -> list[Fault]:
    """What keeps a job out of its partitions: out of all of them, or of any where the site wants it to fit each."""
    ready = [one for one in where if one.partition.up]
    if where and not ready:
        return [_closed(where[0], site)]
    each = [[*_partition(asked, one, site, facts), *_nodes(asked, one)] for one in ready]
    if not all(each) and facts.config.get("EnforcePartLimits") not in ("ALL", "YES"):
        return []
    return next((found for found in each if found), [])


def waits_for_nodes(asked: Asked, where: Sequence[Target]) -> bool:
    """Whether enough nodes would do but for being down, drained or reserved: SLURM accepts the job, it starts later."""
    return any(
        len([one for one in able if one.up]) < asked.nodes <= len(able)
        for able in ([node for node in _left(asked, one) if _fits(asked, node)] for one in where)
    )


def _left(asked: Asked, where: Target) -> list[Node]:
    """The nodes of a partition that the job does not stay away from."""
    return [node for node in where.nodes if node.name not in asked.exclude]


def _fits(asked: Asked, node: Node) -> bool:
    enough = node.cpus >= asked.cpus and node.memory_mib >= asked.memory_mib
    return enough and _gpus(node, asked.gpu_type) >= asked.gpus


def _gpus(node: Node, kind: str) -> int:
    return node.gpus.get(kind, 0) if kind else node.gpu_count


def _closed(where: Target, site: Site) -> Fault:
    others = [each for each in site.profile.queues if each != site.queue_name]
    another = f"choose another queue ({', '.join(others)}), or " if others else ""
    message = f"{where.name} is {where.partition.state}: it starts no jobs"
    return Fault("partition", message, f"{another}wait until `sinfo` says `up`")


def _partition(asked: Asked, where: Target, site: Site, facts: SiteFacts) -> Iterator[Fault]:
    limits, number = where.partition, f"asks for {counted(asked.nodes, 'node')}"
    if limits.max_nodes is not None and asked.nodes > limits.max_nodes:
        message = f"{number}, {where.name} allows a job {limits.max_nodes}"
        yield Fault("nodes", message, _as_many(asked, limits.max_nodes))
    if asked.nodes < limits.min_nodes:
        message = f"{number}, {where.name} wants at least {limits.min_nodes}"
        yield Fault("nodes", message, _as_many(asked, limits.min_nodes))
    yield from _time(asked, where, site)
    yield from _who(where, site, facts)
    if limits.max_cpus is not None and asked.cpus > limits.max_cpus:
        message = f"asks for {asked.cpus} cores of each node, {where.name} allows {limits.max_cpus}"
        yield Fault("cpus_per_node", message, f"write `cpus_per_node: {limits.max_cpus}`")
    if limits.max_memory_mib is not None and asked.memory_mib > limits.max_memory_mib:
        message = f"asks for {asked.memory_mib} MiB of each node, {where.name} allows {limits.max_memory_mib}"
        yield Fault("memory_gib_per_node", message, f"write `memory_gib_per_node: {gib(limits.max_memory_mib)}`")


def _as_many(asked: Asked, nodes: int) -> str:
    gpus = f", or `gpus: {nodes * asked.gpus}` in its place" if asked.gpus else ""
    return f"write `nodes: {nodes}`{gpus}, or choose another queue"


def _time(asked: Asked, where: Target, site: Site) -> Iterator[Fault]:
    most, default, lead = where.partition.max_time_s, where.partition.default_time_s, site.profile.stop_lead_s
    if asked.time_s is not None and most is not None and asked.time_s > most:
        subject = "time" if asked.stage == "train" else "max_time"
        message = f"asks for {clock(asked.time_s)}, {where.name} allows {clock(most)}"
        yield Fault(subject, message, f'write `{{name}}: "{clock(most)}"`, or choose another queue')
    if asked.time_s is None and default is not None and default <= lead:
        message = (
            f"nothing is said, so {where.name} ends jobs after {clock(default)}, at once after `stop_lead_s` ({lead} s)"
        )
        yield Fault("max_time", message, "write a longer one, as far as the site allows it, or lower `stop_lead_s`")


def _who(where: Target, site: Site, facts: SiteFacts) -> Iterator[Fault]:
    """Without accounting any qos will do, and no account is denied; but a list of accounts keeps everybody else out."""
    limits, account, qos = where.partition, site.account, site.queue.qos
    accounting = facts.config.get("AccountingStorageType", "").endswith("slurmdbd")
    named, takes = (account or "").lower(), [each.lower() for each in limits.accounts or ()]
    listed = f"it takes: {', '.join(takes)} (`--account NAME`)"
    if takes and not account:
        yield Fault("account", f"{where.name} wants an account, none is named", listed)
    elif takes and named not in takes:
        message = f"{where.name} does not take account `{account}`"
        yield Fault("account", message, nearest_of(named, takes, listed))
    if accounting and named in map(str.lower, limits.denied_accounts):
        message = f"{where.name} does not take account `{account}`"
        yield Fault("account", message, "name another: `--account NAME`")
    if accounting and qos and limits.qos and qos.lower() not in map(str.lower, limits.qos):
        message, listed = f"{where.name} does not take qos `{qos}`", f"it takes: {', '.join(limits.qos)}"
        yield Fault("qos", message, nearest_of(qos, limits.qos, listed))


def _nodes(asked: Asked, where: Target) -> Iterator[Fault]:
    """What too few nodes of the partition have, GPUs, cores and memory each for itself."""
    left, kind = _left(asked, where), asked.gpu_type
    if len(left) < asked.nodes <= len(where.nodes):
        without = f"{counted(len(left), 'node')} of {where.name} are left without these"
        yield Fault("exclude", f"{without}, the run asks for {asked.nodes}", "exclude fewer, or ask for fewer nodes")
    if not left:
        return
    kinds = types(left)
    if asked.gpus and kind and kind not in kinds and any(node.gpus for node in left):
        listed = f"types there: {', '.join(kinds)}" if kinds else "leave `gres` out: its GPUs have no type"
        yield Fault("gres", f"{where.name} has no GPUs of type `{kind}`", nearest_of(kind, kinds, listed))
        kind = ""
    for key, unit, wanted, there in (
        ("gpus_per_node", "GPUs", asked.gpus, [_gpus(node, kind) for node in left]),
        ("cpus_per_node", "cores", asked.cpus, [node.cpus for node in left]),
        ("memory_gib_per_node", "MiB", asked.memory_mib, [node.memory_mib for node in left]),
    ):
        best = sorted(there, reverse=True)[min(asked.nodes, len(left)) - 1]
        if best < wanted:
            able = sum(value >= wanted for value in there) or "none"
            message = f"asks for {counted(asked.nodes, 'node')} with {wanted} {unit}, {where.name} has {able}"
            yield _lacking(key, best, message)


def _lacking(key: str, best: int, message: str) -> Fault:
    """`best`: what so many nodes have, or all there are."""
    if key == "gpus_per_node" and best == 0:
        return Fault("partition", message, "choose a queue with GPUs, or say that this one has none: `gpu: none`")
    value = gib(best) if key == "memory_gib_per_node" else best
    return Fault(key, message, f"write `{key}: {value}`: so much is there")
