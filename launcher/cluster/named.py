"""Hardware that is only named, `--on RTX4090x2`: planned for, not run on."""

from __future__ import annotations

import os
import re

from launcher.catalog.gpus import gpu, is_gpu
from launcher.cluster import local
from launcher.cluster.schema import Cluster, Gpu, usable_gib
from launcher.errors import UsageError

_COUNTED = re.compile(r"(?P<name>.+?)\s*[x×]\s*(?P<count>\d{1,4})", re.IGNORECASE)
_MOST_GPUS = 64


def load(on: str) -> Cluster:
    """One node with the GPUs that `on` names.

    Raises:
        UsageError: no such GPU, or no such number of them in a node.
    """
    name, count = _split(on)
    if not 1 <= count <= _MOST_GPUS:
        raise UsageError(f"--on {on}: {count} GPUs", hint=f"a node holds 1 to {_MOST_GPUS}")
    kind = whole_gpu(name)
    return Cluster(
        name=f"{kind.name}x{count}",
        gpu=kind,
        gpus_per_node=count,
        cpus_per_node=0,
        memory_gib=0.0,
        paths=local.paths(os.environ),
        here=False,
    )


def whole_gpu(name: str) -> Gpu:
    """A GPU of the catalogue that nothing else uses.

    Raises:
        UsageError: the catalogue has no such GPU.
    """
    row = gpu(name)
    memory_gib = round(row.memory_gib, 1)
    return Gpu(row.name, memory_gib, usable_gib(row.memory_gib), bf16=row.bf16, capability=row.capability)


def _split(on: str) -> tuple[str, int]:
    """`RTX4090x2` → (`RTX4090`, 2). A whole name comes first: `rtx4090`, too, ends in an x and a number."""
    counted = _COUNTED.fullmatch(on)
    if counted and not is_gpu(on) and any(character.isdigit() for character in counted["name"]):
        return counted["name"], int(counted["count"])
    return on, 1
