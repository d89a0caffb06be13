"""What SLURM would refuse, or accept and never run, found before anything is queued, with the key to change.

SLURM itself is asked twice: for its limits, which it enforces only where the site says so, and with `sbatch --test-only`
for everything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from launcher.cluster.schema import Site
from launcher.errors import SubmissionErrors
from launcher.executors.slurm import asked, limits, refusals, site_facts
from launcher.executors.slurm.asked import Asked
from launcher.executors.slurm.blame import Fault, Keys
from launcher.executors.slurm.limits import Target
from launcher.executors.slurm.site_facts import SiteFacts
from launcher.plan.types import Job, Plan
from launcher.recipe.load import LoadedRecipe
from launcher.runs.paths import RunDir

_SIZES = ("nodes", "time", "cpus_per_node", "memory_gib_per_node")
"""Here its limits say more than its verdict, which may only follow from them: too many nodes are too many cores."""

_LIFTED = ("nodes", "time", "max_time")
"""Limits of a partition that a qos may lift (its flags PartitionMaxNodes, PartitionMinNodes, PartitionTimeLimit)."""


def refuse(
    run_dir: RunDir,
    plan: Plan,
    jobs: Sequence[Job],
    site: Site,
    loaded: LoadedRecipe | None,
    options: Sequence[str] = (),
) -> None:
    """Nothing, where SLURM will take these jobs and start them some day.

    Args:
        run_dir: the run, its scripts written.
        plan: its plan.
        jobs: what is about to be submitted.
        site: where to.
        loaded: the recipe, whose lines errors name; None where a run goes on without one.
        options: of the training's `sbatch`, beside those in its script.

    Raises:
        SubmissionErrors: it will not; one error for each key.
        Unreachable: the controller does not answer.
    """
    facts = site_facts.limits()
    where, missing = limits.targets(site, facts)
    keys = Keys(plan, site, loaded)
    found = {keys.of(fault.subject): fault for fault in missing}
    for job in asked.jobs(run_dir, plan, sorted(jobs, key=lambda job: job.stage != "train"), site, options):
        for fault in _faults(job, where, site, facts):
            found.setdefault(keys.of(fault.subject), fault)
    if found:
        raise SubmissionErrors([keys.error(fault) for fault in sorted(found.values(), key=keys.order)])


def _faults(job: Asked, where: Sequence[Target], site: Site, facts: SiteFacts) -> Iterator[Fault]:
    """By SLURM's limits and names, and then by its own verdict where that adds something."""
    exceeded = [*limits.faults(job, where, site, facts), *limits.unknown(job, where, site, facts)]
    if any(fault.subject in _LIFTED for fault in exceeded) and _is_lifted(job, site, facts):
        exceeded = [fault for fault in exceeded if fault.subject not in _LIFTED]
    yield from exceeded
    text = refusals.said(job, small=bool(exceeded))
    if text is None or (refusals.NODES in text and (exceeded or not where or limits.waits_for_nodes(job, where))):
        return
    verdict = refusals.fault(text, job, site, facts)
    if not (exceeded and verdict.subject in _SIZES):
        yield verdict


def _is_lifted(job: Asked, site: Site, facts: SiteFacts) -> bool:
    """SLURM says so where it looks at limits when a job is submitted; elsewhere the qos has to be looked at."""
    if facts.config.get("EnforcePartLimits") in ("ALL", "YES", "ANY"):
        return refusals.said(job) is None
    return bool(site.queue.qos) and "Partition" in site_facts.qos_flags(str(site.queue.qos))
