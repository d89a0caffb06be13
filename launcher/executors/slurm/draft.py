"""A first profile from what SLURM says about its partitions and nodes: `launcher doctor --cluster NAME --write`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.catalog.gpus import gpu, is_gpu
from launcher.cluster.profile import Profile
from launcher.errors import EnvironmentFault
from launcher.executors.slurm.doctor import gib, is_preempted
from launcher.executors.slurm.site_facts import Node, Partition, SiteFacts, clock

_LONGEST_S = 1000 * 86400
_STOP_LEAD_S: int = Profile.model_fields["stop_lead_s"].default


@dataclass(frozen=True)
class _Shape:
    """What the nodes of a queue have: GPU type as gres says it, or None for no GPU."""

    gres: str | None
    gpus: int
    cpus: int
    memory_gib: float


def write(folder: Path, name: str, facts: SiteFacts) -> Path:
    """Write `NAME.yaml`; what is there already stays.

    Raises:
        EnvironmentFault: the file exists, or the site has no partition with nodes.
    """
    path = folder / f"{name}.yaml"
    text = draft(facts)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        hint = f"compare it with the site: `launcher doctor --cluster {name}`"
        raise EnvironmentFault(f"{path} is there already, and is not written over", hint=hint) from None
    return path


def draft(facts: SiteFacts) -> str:
    """The profile's text: a queue for each partition that is up and long enough to stop in time, the site's default first.

    Raises:
        EnvironmentFault: there is no such partition with nodes.
    """
    shapes = {each: _shape(facts.nodes_of(each.name)) for each in _in_order(facts) if facts.nodes_of(each.name)}
    if not any(_is_long_enough(each) for each in shapes):
        message = f"no partition of this site is up, has nodes and gives jobs more than {_STOP_LEAD_S} s"
        raise EnvironmentFault(message, hint="`sinfo` shows them")
    usual = next((shape for shape in shapes.values() if shape.gpus), next(iter(shapes.values())))
    lines = [
        f"# From what SLURM {facts.config.get('SLURM_VERSION', '')} of `{facts.config.get('ClusterName', '')}` says; look through it.",
        "# Every key: docs/reference/clusters.md. It does not know your folders, modules, container and account.",
        *_hardware(usual, ""),
        *_account(facts),
        "queues:",
        *(line for each, shape in shapes.items() for line in _queue(each, shape, usual, facts)),
        "#paths: {data: /shared/data, models: /shared/models, cache: /scratch/$USER/cache, runs: /scratch/$USER/runs}",
        "#internet: true # compute nodes reach the hub",
        *([] if facts.config.get("JobRequeue") != "0" else ["requeue: false # JobRequeue=0"]),
    ]
    return "\n".join(lines) + "\n"


def _account(facts: SiteFacts) -> list[str]:
    first, *more = facts.accounts or ("",)
    others = f" # or {', '.join(more)}" if more else ""
    return [f"#account: {json.dumps(first)}{others}"] if first else []


def _in_order(facts: SiteFacts) -> list[Partition]:
    up = [each for each in facts.partitions.values() if each.up]
    return sorted(up, key=lambda each: not each.default)


def _shape(nodes: Sequence[Node]) -> _Shape:
    """The commonest kind of node, those with GPUs first."""
    with_gpus = [node for node in nodes if node.gpus]
    kinds = Counter(_of(node) for node in with_gpus or nodes)
    return kinds.most_common(1)[0][0]


def _of(node: Node) -> _Shape:
    gres, count = max(node.gpus.items(), key=lambda pair: pair[1], default=(None, 0))
    return _Shape(gres, count, node.cpus, gib(node.memory_mib))


def _queue(partition: Partition, shape: _Shape, usual: _Shape, facts: SiteFacts) -> list[str]:
    longest_s = partition.max_time_s
    if longest_s is not None and not _is_long_enough(partition):
        return [f"  # {partition.name}: ends jobs after {clock(longest_s)}, too soon to stop them in time"]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", partition.name).strip("-_") or "queue"
    lines = [f"  {json.dumps(name)}:", f"    partition: {json.dumps(partition.name)}"]
    if longest_s is not None and longest_s < _LONGEST_S:
        lines.append(f'    max_time: "{clock(longest_s)}"')
    if partition.max_nodes is not None:
        lines.append(f"    max_nodes: {partition.max_nodes}")
    if is_preempted(partition, facts):
        lines.append("    preemptible: true")
    return lines + (_hardware(shape, "    ", usual) if shape != usual else [])


def _is_long_enough(partition: Partition) -> bool:
    return partition.max_time_s is None or partition.max_time_s > _STOP_LEAD_S


def _hardware(shape: _Shape, pad: str, usual: _Shape | None = None) -> list[str]:
    size = [f"{pad}cpus_per_node: {shape.cpus}", f"{pad}memory_gib_per_node: {shape.memory_gib:g}"]
    if not shape.gpus:
        return [f"{pad}gpu: none", *size] if usual and usual.gpus else size
    gres = [f"gres: {json.dumps(shape.gres)}"] if shape.gres else []
    if shape.gres and is_gpu(shape.gres):
        named = f"gpu: {gpu(shape.gres).name} # by its gres; `nvidia-smi` on a node says how much memory it has"
        return [*(pad + line for line in (named, f"gpus_per_node: {shape.gpus}", *gres)), *size]
    asked = f"# {shape.gpus} GPUs, but which? Name them as the catalogue does (`launcher plan R --on NAME`):"
    none = [f"{pad}gpu: none"] if usual and usual.gpus else []
    unsaid = (asked, "#gpu: A100-40GB", f"#gpus_per_node: {shape.gpus}", *(f"#{line}" for line in gres))
    return [*(pad + line for line in unsaid), *none, *size]
