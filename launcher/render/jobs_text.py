"""The jobs that a run becomes on a SLURM site, as a table."""

from __future__ import annotations

from launcher.cluster.schema import Site
from launcher.plan.jobs import clock
from launcher.plan.types import Job, Plan
from launcher.render.sbatch import STAGE_S
from launcher.text import duration, table


def jobs_table(plan: Plan, site: Site) -> list[str]:
    """One line per stage: its job, or the one that it runs in."""
    lines, number, before = [["#", "stage", "queue", "nodes", "limit", "after", "what"]], 0, ""
    for job in plan.jobs:
        if own_job(job, site):
            number += 1
            lines.append([str(number), job.stage, *_asked(job, site), before or "-", _what(plan, job, site)])
            before = f"afterok:{number}"
        else:
            lines.append(["-", job.stage, "-", "-", "-", "-", _elsewhere(job, site)])
    return [*table(lines).splitlines(), *_price(plan, site)]


def _price(plan: Plan, site: Site) -> list[str]:
    """What a turn of the training costs where it takes all of its time."""
    train = next(job for job in plan.jobs if job.stage == "train")
    price, gpus = site.profile.price_per_gpu_hour, train.nodes * train.processes
    if price is None or train.time_limit_s is None or plan.device != "cuda":
        return []
    hours = train.time_limit_s / 3600
    return [
        f"a turn of the training costs at most {gpus * hours * price:,.2f} {site.profile.currency}: {gpus} GPUs × {hours:g} h × {price:g}"
    ]


def own_job(job: Job, site: Site) -> bool:
    """A stage has a job of its own, or may turn out to need one."""
    return job.stage == "train" or getattr(site.profile.stages, job.stage) in ("job", "auto")


def _asked(job: Job, site: Site) -> list[str]:
    nodes = f"{job.nodes} × {job.processes}" if job.stage == "train" else "1"
    limit_s = job.time_limit_s or (None if job.stage == "train" else STAGE_S)
    return [site.for_stage(job.stage).queue_name, nodes, clock(limit_s) if limit_s else "the partition's"]


def _what(plan: Plan, job: Job, site: Site) -> str:
    if job.stage == "train":
        return _train(plan, site)
    if getattr(site.profile.stages, job.stage) == "auto":
        return "only where the training's last job has no time left for it"
    return {"prepare": "on the CPU, before a GPU is held", "evaluate": "the result measured by one process"}.get(
        job.stage, "on the CPU"
    )


def _train(plan: Plan, site: Site) -> str:
    lead = duration(site.profile.stop_lead_s)
    times = plan.restart.max_requeues
    if site.profile.requeue:
        return f"queues itself again, at most {times} times; asked to leave {lead} before the limit"
    return f"{times + 1} jobs, one after another, as the site forbids requeues; asked to leave {lead} before the limit"


def _elsewhere(job: Job, site: Site) -> str:
    if job.stage == "prepare" and site.profile.stages.prepare == "login":
        return "at once, where the command is typed"
    return "first in the training's job" if job.stage == "prepare" else "at the end of the training's job"
