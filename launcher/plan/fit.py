"""Whether a plan fits: what it needs against what is free, with the margin that the predictor's error asks for."""

from __future__ import annotations

import shlex
from dataclasses import replace

from launcher.catalog.gpus import GpuRow, gpu, is_gpu
from launcher.cluster.schema import Cluster
from launcher.errors import FitError
from launcher.plan import figures, lessons
from launcher.plan.types import Plan
from launcher.predict import host as host_memory
from launcher.predict.disk import disk
from launcher.predict.duration import duration
from launcher.predict.prediction import Prediction, Verdict
from launcher.predict.setup import Setup
from launcher.text import gib

SPARE = 0.10
"""Part of a prediction that must be free beside it to say `fits`: the largest error that docs/PREDICTOR.md allows itself."""
_TOLD = 4
"""Terms of memory that an error names."""
_SYSTEM_GIB = 1.0
"""Of a node's memory, what its system keeps where it is not known how much is free."""


def verdict(needed: int, capacity: int) -> Verdict:
    """`fits` with `SPARE` beside it, `tight` with less, `does not fit` with nothing."""
    if needed > capacity:
        return "does not fit"
    return "fits" if needed * (1 + SPARE) <= capacity else "tight"


def missing(needed: int, capacity: int) -> int:
    """Bytes that `needed` is short of to say `fits`; 0 where it says so."""
    return max(0, round(needed * (1 + SPARE)) - capacity)


def capacity(cluster: Cluster, per_node: int) -> int | None:
    """Bytes that one rank has free: of its GPU, else its part of the node's memory, without what its program takes.

    None where that is not known.

    Args:
        cluster: the hardware, as it was looked at.
        per_node: ranks on a node.
    """
    if cluster.gpu is not None:
        return round(cluster.gpu.free_gib * 2**30)
    share = _share(_memory_gib(cluster), per_node)
    return None if share is None else max(0, share - host_memory.PROCESS_BYTES["cpu"])


def usual(cluster: Cluster, per_node: int) -> int | None:
    """The same when nothing else runs there: what decides must not change between two starts of a run."""
    if cluster.gpu is not None:
        return round(cluster.gpu.idle_gib * 2**30)
    return capacity(cluster, per_node)


def host(cluster: Cluster) -> int | None:
    """Bytes of host memory of a node; None where that is not known."""
    return _share(_memory_gib(cluster), 1)


def row(cluster: Cluster) -> GpuRow | None:
    """The catalogue's row of the cluster's GPU; None on a CPU, and for a GPU that it does not know."""
    return gpu(cluster.gpu.name) if cluster.gpu is not None and is_gpu(cluster.gpu.name) else None


def refusal(plan: Plan) -> FitError | None:
    """Why a plan that does not fit is not started, with the changes that make it fit; None for any other."""
    found = plan.prediction
    if found is None or found.verdict != "does not fit":
        return None
    largest = sorted(found.memory.terms.items(), key=lambda term: -term[1])[:_TOLD]
    terms = ", ".join(f"{name} {gib(size)}" for name, size in largest)
    where = "GPU" if plan.device == "cuda" else "process"
    message = f"does not fit: needs {gib(found.memory.total)} on each {where} ({terms}), {gib(found.capacity)} are free"
    ways = [
        f"`{' '.join(f'--set {shlex.quote(each)}' for each in fix.sets)}`: {gib(fix.memory)}" for fix in found.fixes
    ]
    fitting = (
        f"it fits with {', or with '.join(ways)}" if ways else "`launcher plan RECIPE --advise` says where it fits"
    )
    return FitError(message, hint=f"{fitting}; `--anyway` starts it as it is")


def predicted(setup: Setup, plan: Plan, cluster: Cluster, free: int) -> Prediction:
    """What is expected of a plan on hardware with so much memory free on a device."""
    found = Prediction(
        figures.memory(setup),
        free,
        "fits",
        host=of_host(setup, plan),
        host_capacity=host(cluster),
        disk=_disk(setup, plan),
    )
    found = lessons.taught(found, setup, cluster.calibration)
    found = replace(found, verdict=_worse(verdict(found.memory.total, free), hosted(found)))
    if found.time is None or plan.estimate.steps is None:
        return found
    profile = cluster.site.profile if cluster.site else None
    price, currency = (profile.price_per_gpu_hour, profile.currency) if profile else (None, "")
    took = duration(setup, found.time, plan.estimate.steps, price, currency)
    return replace(found, run_s=took.run_s, gpu_hours=took.gpu_hours, energy_kwh=took.energy_kwh, cost=took.cost)


def of_host(setup: Setup, plan: Plan) -> dict[str, int]:
    """Host memory of a node by term."""
    return host_memory.host(setup, workers=int(plan.trainer.get("dataloader_num_workers") or 0))


def hosted(found: Prediction) -> Verdict:
    """Whether what lies in host memory has room there; loading, which is known roughly and over soon, makes it tight at worst.

    On a CPU it is the same memory, and judged with the rest.
    """
    if found.host_capacity is None or "context" not in found.memory.terms:
        return "fits"
    needed = sum(found.host.values())
    if needed - found.host.get("loading", 0) > found.host_capacity:
        return "does not fit"
    return "tight" if needed > found.host_capacity else "fits"


def _worse(one: Verdict, other: Verdict) -> Verdict:
    order: tuple[Verdict, ...] = ("fits", "tight", "does not fit")
    return max(one, other, key=order.index)


def _disk(setup: Setup, plan: Plan) -> dict[str, int]:
    """One checkpoint more than are kept is there while it is written, and the best may be another."""
    kept = plan.checkpoint.keep + 1 + (plan.checkpoint.keep_best is not None)
    return disk(setup, checkpoints=kept, tokens=plan.estimate.tokens, merged=plan.export.merge)


def _memory_gib(cluster: Cluster) -> float:
    known = cluster.free_memory_gib
    return cluster.memory_gib - _SYSTEM_GIB if known is None else known


def _share(memory_gib: float, ranks: int) -> int | None:
    return round(memory_gib * 2**30 / ranks) if memory_gib > 0 else None
