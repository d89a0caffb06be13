"""A cluster by name."""

from __future__ import annotations

import os
import re

from launcher.cluster import local
from launcher.cluster.schema import Cluster, Gpu
from launcher.errors import UsageError

_COUNTED = re.compile(r"(?P<name>.+?)\s*[x×]\s*(?P<count>\d{1,4})", re.IGNORECASE)
_MOST_GPUS = 64


def load_cluster(name: str, *, gpus: str | None = None, on: str | None = None) -> Cluster:
    """The hardware to plan for: this machine (`local`), or hardware that is only named.

    Args:
        name: `local`.
        gpus: GPUs of this machine to use, as nvidia-smi numbers them (`0,2`), or `none`.
        on: hardware that is not here, for example `RTX4090x1`.

    Raises:
        UsageError: the name, a GPU or a combination does not exist.
    """
    if name != "local":
        raise UsageError(
            f"unknown cluster `{name}`",
            hint="only `local` exists so far; profiles of other clusters come with the SLURM executor",
        )
    if on is None:
        return local.detect(gpus)
    if gpus is not None:
        raise UsageError(
            f"--gpus {gpus} chooses GPUs of this machine, --on {on} plans for another",
            hint=f"leave one of them out; the count belongs to the name, as in `--on {on.partition('x')[0]}x2`",
        )
    return _named(on)


def _named(on: str) -> Cluster:
    from launcher.catalog.gpus import gpu

    name, count = _split(on)
    if not 1 <= count <= _MOST_GPUS:
        raise UsageError(f"--on {on}: {count} GPUs", hint=f"a node holds 1 to {_MOST_GPUS}")
    row = gpu(name)
    memory_gib = round(row.memory_gib, 1)
    return Cluster(
        name=f"{row.name}x{count}",
        gpu=Gpu(row.name, memory_gib, memory_gib, bf16=row.bf16, capability=row.capability),
        gpus_per_node=count,
        cpus_per_node=0,
        memory_gib=0.0,
        paths=local.paths(os.environ),
        here=False,
    )


def _split(on: str) -> tuple[str, int]:
    """`RTX4090x2` → (`RTX4090`, 2). A whole name comes first: `rtx4090`, too, ends in an x and a number."""
    from launcher.catalog.gpus import is_gpu

    counted = _COUNTED.fullmatch(on)
    if counted and not is_gpu(on) and any(character.isdigit() for character in counted["name"]):
        return counted["name"], int(counted["count"])
    return on, 1
