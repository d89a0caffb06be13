"""Runs that ask for the same as one batch script: an array, each of whose elements goes on with the script of its run."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.cluster.schema import Site
from launcher.plan.types import Job, Plan
from launcher.render import sbatch
from launcher.render.sbatch import Directive
from launcher.runs.arrays import ArrayDir
from launcher.runs.paths import RunDir
from launcher.text import counted


def script(
    array: ArrayDir, name: str, plan: Plan, site: Site, elements: tuple[RunDir, ...], throttle: int | None = None
) -> str:
    """The batch script of an array.

    Args:
        array: its folder.
        name: what SLURM is to call it.
        plan: that of one of its runs; the others ask for the same.
        site: profile and queue.
        elements: its runs, by index.
        throttle: how many may run at a time; None for all.
    """
    train = next(job for job in plan.jobs if job.stage == "train")
    return sbatch.template("array.sbatch.j2").render(
        name=name,
        what=f"{counted(len(elements), 'run')}, {plan.hardware} each",
        where=site.label,
        directives=[
            (f"--job-name={name}", ""),
            (f"--array={indices(len(elements), throttle)}", _at_a_time(throttle)),
            *same(plan, train, site, elements[0]),
            (f"--output={array.log('train')}", ""),
        ],
        links=str(array.links),
    )


def indices(count: int, throttle: int | None) -> str:
    """`0-9%2`: ten elements, two at a time."""
    return f"0-{count - 1}" + (f"%{throttle}" if throttle else "")


def same(plan: Plan, job: Job, site: Site, run_dir: RunDir) -> Iterator[Directive]:
    """What a job asks for, without what is its run's own; runs that ask for the same may be one array."""
    for flag, why in sbatch.directives(plan, job, site, run_dir):
        if not flag.startswith(("--job-name=", "--output=")):
            yield flag, why


def _at_a_time(throttle: int | None) -> str:
    return f"{throttle} at a time: `scontrol update JobId=… ArrayTaskThrottle=N` changes it" if throttle else ""
