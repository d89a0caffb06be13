"""A profile against its site: what SLURM, the folders and the programs there say to each key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from launcher.cluster.checks import seconds
from launcher.cluster.profile import Queue
from launcher.cluster.schema import Site
from launcher.errors import Place
from launcher.executors.findings import Finding, Level
from launcher.executors.slurm.site_facts import Node, Partition, SiteFacts, clock, types
from launcher.text import counted, nearest_of

_ROUND_S = 60
"""SLURM looks at time limits every 30 s, and may kill up to 30 s late or warn that much early."""


def findings(sites: Sequence[Site], facts: SiteFacts) -> list[Finding]:
    """What does not fit, of the profile once and of each of its queues.

    Args:
        sites: the profile with each of its queues.
        facts: what SLURM says.
    """
    found = [*_whole(sites[0], facts), *(each for site in sites for each in _queue(site, facts))]
    return sorted(dict.fromkeys(found), key=lambda each: each.order)


def finding(site: Site, level: Level, key: str, message: str, hint: str) -> Finding:
    """One finding at the line of the key, or of the section around it."""
    place = next((site.places[part] for part in _upwards(key) if part in site.places), Place(site.source))
    return Finding(level, key, message, hint, place)


def _upwards(key: str) -> Iterator[str]:
    while key:
        yield key
        key = key.rpartition(".")[0]


def _whole(site: Site, facts: SiteFacts) -> Iterator[Finding]:
    profile = site.profile
    if profile.requeue and facts.config.get("JobRequeue") == "0":
        message = "JobRequeue=0: the site does not put jobs back by itself, only those that ask for it"
        hint = "if `scontrol requeue JOB` is refused there, write `requeue: false`"
        yield finding(site, "warning", "requeue", message, hint)
    if profile.stop_lead_s < _ROUND_S:
        message = f"SLURM looks at time limits every 30 s: of {profile.stop_lead_s} s little may be left"
        yield finding(site, "warning", "stop_lead_s", message, "write `stop_lead_s: 120`")
    if profile.container and profile.container.runtime == "pyxis" and not facts.pyxis:
        message = "`srun` has no `--container-image`: Pyxis is not installed here"
        hint = "write `runtime: apptainer`, or remove `container`"
        yield finding(site, "error", "container.runtime", message, hint)


def _queue(site: Site, facts: SiteFacts) -> Iterator[Finding]:
    key = f"queues.{site.queue_name}"
    chosen = _partitions(site.queue, facts)
    if not chosen:
        yield _no_default(site, key, facts)
        return
    for name, partition in chosen.items():
        if partition is None:
            hint = nearest_of(name, facts.partitions, f"partitions: {', '.join(facts.partitions)}")
            yield finding(site, "error", f"{key}.partition", f"no partition `{name}`", hint)
            continue
        yield from _limits(site, key, partition)
        yield from _access(site, key, partition, facts)
        yield from _preemption(site, key, partition, facts)
        yield from _hardware(site, key, partition, facts.nodes_of(name))


def _partitions(queue: Queue, facts: SiteFacts) -> dict[str, Partition | None]:
    """The partitions of a queue by name, None for one that is not there; without a name the site's default."""
    names = queue.partition.split(",") if queue.partition else [facts.default_partition]
    return {name: facts.partitions.get(name) for name in names if name}


def _no_default(site: Site, key: str, facts: SiteFacts) -> Finding:
    hint = f"add `partition: …`: {', '.join(facts.partitions)}"
    return finding(site, "error", f"{key}.partition", "no partition is named, and the site has no default", hint)


def _limits(site: Site, key: str, partition: Partition) -> Iterator[Finding]:
    queue = site.queue
    if not partition.up:
        yield finding(site, "warning", f"{key}.partition", f"partition `{partition.name}` is not up", "ask the site")
    longest = partition.max_time_s
    if queue.max_time and longest is not None and seconds(queue.max_time) > longest:
        message = f"{queue.max_time} is longer than partition `{partition.name}` allows"
        yield finding(site, "error", f"{key}.max_time", message, f'write `max_time: "{clock(longest)}"`')
    if queue.max_time is None and longest is not None:
        hint = f'add `max_time: "{clock(longest)}"`, so that plans know it'
        message = f"not said; partition `{partition.name}` ends jobs after {clock(longest)}"
        yield finding(site, "warning", f"{key}.max_time", message, hint)
    if queue.max_nodes and partition.max_nodes is not None and queue.max_nodes > partition.max_nodes:
        message = f"{queue.max_nodes} nodes are more than partition `{partition.name}` gives to a job"
        yield finding(site, "error", f"{key}.max_nodes", message, f"write `max_nodes: {partition.max_nodes}`")


def _access(site: Site, key: str, partition: Partition, facts: SiteFacts) -> Iterator[Finding]:
    account, queue = site.account, site.queue
    place = f"{key}.account" if queue.account else "account"
    if account and facts.accounts is not None and account not in facts.accounts:
        enforced = "associations" in facts.config.get("AccountingStorageEnforce", "")
        yours = ", ".join(facts.accounts) or "none"
        hint = nearest_of(account, facts.accounts, f"yours: {yours}")
        yield finding(site, "error" if enforced else "warning", place, f"`{account}` is not an account of yours", hint)
    if account and partition.accounts is not None and account not in partition.accounts:
        message = f"partition `{partition.name}` does not take account `{account}`"
        yield finding(site, "error", place, message, f"it takes: {', '.join(partition.accounts)}")
    if queue.qos and partition.qos is not None and queue.qos not in partition.qos:
        message = f"partition `{partition.name}` does not take QOS `{queue.qos}`"
        yield finding(site, "error", f"{key}.qos", message, f"it takes: {', '.join(partition.qos)}")


def _preemption(site: Site, key: str, partition: Partition, facts: SiteFacts) -> Iterator[Finding]:
    preempted = is_preempted(partition, facts)
    if not site.queue.preemptible:
        if preempted:
            message = f"partition `{partition.name}` gives way to others (PreemptMode={partition.preempt_mode})"
            yield finding(site, "warning", f"{key}.preemptible", message, "write `preemptible: true`")
        return
    place = f"{key}.preemptible"
    if not preempted and "qos" not in facts.config.get("PreemptType", ""):
        message = f"partition `{partition.name}` is never preempted here"
        yield finding(site, "warning", place, message, "remove `preemptible`, if the site agrees")
        return
    grace_s, kill_s = partition.grace_s, facts.seconds("KillWait")
    if grace_s + kill_s < site.profile.stop_lead_s:
        message = (
            f"a preempted job has {grace_s} s (GraceTime) and {kill_s} s (KillWait), not {site.profile.stop_lead_s} s"
        )
        hint = "save often (`checkpoint.save_steps`): what is not saved by then is computed again"
        yield finding(site, "warning", place, message, hint)
    if grace_s and "preempt_send_user_signal" not in facts.config.get("SlurmctldParameters", ""):
        message = "a preempted job is told by TERM to its steps (no preempt_send_user_signal)"
        yield finding(site, "warning", place, message, "nothing to change: TERM saves, too")


def is_preempted(partition: Partition, facts: SiteFacts) -> bool:
    """Whether a partition of a higher tier may take its nodes."""
    if partition.preempt_mode == "OFF" or "partition" not in facts.config.get("PreemptType", ""):
        return False
    nodes = set(facts.nodes_of(partition.name))
    above = [each for each in facts.partitions.values() if each.tier > partition.tier and each.up]
    return any(nodes.intersection(facts.nodes_of(each.name)) for each in above)


def _hardware(site: Site, key: str, partition: Partition, nodes: Sequence[Node]) -> Iterator[Finding]:
    wanted = site.queue.constraint
    known = {feature for node in nodes for feature in node.features}
    for feature in re.findall(r"[A-Za-z_][\w.-]*", wanted or ""):
        if feature not in known:
            hint = nearest_of(feature, known, f"features: {', '.join(sorted(known)) or 'none'}")
            message = f"no node of partition `{partition.name}` has the feature `{feature}`"
            yield finding(site, "error", f"{key}.constraint", message, hint)
    fitting = nodes
    if site.gpus_per_node:
        fitting = [node for node in nodes if _gpus(node, site.gres) >= site.gpus_per_node]
        if not fitting:
            yield _no_gpus(site, key, partition, nodes)
            return
        if site.gres is None and len(kinds := types(fitting)) > 1:
            message = f"partition `{partition.name}` has GPUs of several types, and any of them may be given"
            yield finding(site, "warning", f"{key}.gres", message, f"add `gres: …`: {', '.join(kinds)}")
    if fitting:
        yield from _size(site, key, partition, fitting)


def _gpus(node: Node, gres: str | None) -> int:
    return node.gpus.get(gres, 0) if gres else node.gpu_count


def _no_gpus(site: Site, key: str, partition: Partition, nodes: Sequence[Node]) -> Finding:
    kinds = types(nodes)
    if site.gres and kinds and site.gres not in kinds:
        hint = nearest_of(site.gres, kinds, f"types: {', '.join(kinds)}")
        message = f"no GPU of type `{site.gres}` in partition `{partition.name}`"
        return finding(site, "error", _said(site, key, "gres"), message, hint)
    most = max((_gpus(node, site.gres) for node in nodes), default=0)
    message = f"{counted(site.gpus_per_node, 'GPU')} per node; partition `{partition.name}` has {most} at most"
    hint = f"write `gpus_per_node: {most}`" if most else "write `gpu: none` in the queue, or name another partition"
    return finding(site, "error", _said(site, key, "gpus_per_node"), message, hint)


def _size(site: Site, key: str, partition: Partition, nodes: Sequence[Node]) -> Iterator[Finding]:
    cpus = max(node.cpus for node in nodes)
    if site.cpus_per_node > cpus:
        message = f"{site.cpus_per_node} CPUs per node; partition `{partition.name}` has {cpus} at most"
        hint = f"write `cpus_per_node: {cpus}`"
        yield finding(site, "error", _said(site, key, "cpus_per_node"), message, hint)
    memory_gib = gib(max(node.memory_mib for node in nodes))
    if site.memory_gib_per_node > memory_gib:
        message = (
            f"{site.memory_gib_per_node:g} GiB per node; partition `{partition.name}` has {memory_gib:g} GiB at most"
        )
        hint = f"write `memory_gib_per_node: {memory_gib:g}`"
        yield finding(site, "error", _said(site, key, "memory_gib_per_node"), message, hint)


def _said(site: Site, queue_key: str, name: str) -> str:
    """The key that says it: the queue's own, else the profile's."""
    own = f"{queue_key}.{name}"
    return own if own in site.places else name


def gib(memory_mib: int) -> float:
    """SLURM's MiB in GiB, rounded down to a tenth so that it never asks for more than there is."""
    return memory_mib * 10 // 1024 / 10
