"""The SLURM allocation that this process runs in, as a cluster: `launcher run` inside `salloc`, or in a batch script of one's own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping

from launcher.cluster import local
from launcher.cluster.profile import Profile, Queue
from launcher.cluster.schema import Cluster, Site

_QUERY_S = 60


def cluster(environ: Mapping[str, str]) -> Cluster:
    """All nodes of the allocation, each with what the first one was given."""
    nodes = int(environ.get("SLURM_JOB_NUM_NODES") or environ.get("SLURM_NNODES") or 1)
    devices, notes = _devices(environ)
    gpu = local.weakest(devices)
    cpus = _first(environ.get("SLURM_JOB_CPUS_PER_NODE", "")) or int(environ.get("SLURM_CPUS_ON_NODE") or 1)
    memory_gib = round(int(environ.get("SLURM_MEM_PER_NODE") or 0) / 1024, 1) or local.memory_gib()
    profile = Profile(
        gpu=gpu.name if gpu else None, gpus_per_node=len(devices), cpus_per_node=cpus, memory_gib_per_node=memory_gib,
        queues={"here": Queue(max_nodes=nodes)}, internet=True,
    )  # fmt: skip
    name = f"job {environ['SLURM_JOB_ID']}"
    return Cluster(
        name=name, gpu=gpu, gpus_per_node=len(devices), cpus_per_node=cpus, memory_gib=memory_gib, nodes=nodes,
        paths=local.paths(environ), site=Site(name, profile, "here"), inside=True, notes=notes,
    )  # fmt: skip


def _devices(environ: Mapping[str, str]) -> tuple[list[local.Device], tuple[str, ...]]:
    """The GPUs of the first node, asked there: this process may be on a login node."""
    asked = environ.get("SLURM_GPUS_ON_NODE") or environ.get("SLURM_GPUS_PER_NODE") or environ.get("SLURM_JOB_GPUS")
    if not asked:
        return [], ()
    overlap = ["--overlap"] if environ.get("SLURM_STEP_ID") else []
    argv = ["srun", "--nodes=1", "--ntasks=1", *overlap, *local.nvidia_smi_query()]
    try:
        answer = subprocess.run(argv, capture_output=True, text=True, timeout=_QUERY_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as fault:
        return [], (f"the GPUs of the allocation could not be asked ({fault}): planned without them",)
    if answer.returncode:
        said = " ".join(answer.stderr.split())[:200]
        return [], (f"nvidia-smi on the first node ended with code {answer.returncode} ({said}): planned without GPUs",)
    return local.parse_devices(answer.stdout), ()


def _first(cores: str) -> int:
    """`8(x2),4` → 8; 0 where it says nothing."""
    found = re.match(r"\d+", cores)
    return int(found[0]) if found else 0
