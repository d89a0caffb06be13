"""What each job of a run asks SLURM for, read from the very options it is submitted with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launcher.cluster.schema import Site
from launcher.executors.slurm import client
from launcher.plan.jobs import seconds
from launcher.plan.types import Job, Plan
from launcher.render import sbatch
from launcher.runs.paths import RunDir


@dataclass(frozen=True)
class Asked:
    """One job. Memory in MiB, and like cores and GPUs for each node."""

    stage: str
    argv: tuple[str, ...]
    """`sbatch` with its options and its script: with `--test-only` it says what would become of the job."""
    nodes: int
    cpus: int
    memory_mib: int
    gpus: int = 0
    gpu_type: str = ""
    time_s: int | None = None
    """None: the partition's own limit holds."""
    exclude: frozenset[str] = frozenset()
    """Nodes to stay away from."""


def jobs(run_dir: RunDir, plan: Plan, left: Sequence[Job], site: Site, more: Sequence[str]) -> Iterator[Asked]:
    """The jobs that a chain is about to submit; `more` are options of the training beside those in its script.

    Raises:
        Unreachable: the controller does not answer.
    """
    for job in left:
        flags = [flag for flag, _ in sbatch.directives(plan, job, site, run_dir)]
        train = job.stage == "train"
        words = [*more, str(run_dir.script("train.sbatch"))] if train else [*flags, "--wrap=true"]
        yield _read(job.stage, ("sbatch", *words), [*flags, *(more if train else ())])


def _read(stage: str, argv: tuple[str, ...], flags: Sequence[str]) -> Asked:
    said = {name: str(value) for name, value in map(sbatch.option, flags)}
    kind, _, gpus = said.get("gpus-per-node", "0").rpartition(":")
    return Asked(
        stage,
        argv,
        nodes=int(said["nodes"]),
        cpus=int(said["cpus-per-task"]),
        memory_mib=int(said["mem"].removesuffix("M")),
        gpus=int(gpus),
        gpu_type=kind,
        time_s=seconds(said["time"]) if "time" in said else None,
        exclude=frozenset(client.hostnames(said["exclude"])) if "exclude" in said else frozenset(),
    )
