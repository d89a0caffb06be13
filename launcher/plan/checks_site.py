"""A recipe against a site's profile, as far as no SLURM has to be asked."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.cluster.schema import Cluster, Site
from launcher.errors import RecipeError
from launcher.plan.jobs import seconds
from launcher.recipe.load import LoadedRecipe
from launcher.text import quote


def faults(loaded: LoadedRecipe, cluster: Cluster) -> Iterator[RecipeError]:
    """What a job of this queue, or several machines, could not do."""
    where = f"jobs on `{cluster.site.label}`" if cluster.site else "several machines"
    if loaded.recipe.launch.probe and (cluster.site or (loaded.recipe.launch.nodes or 1) > 1):
        hint = "leave it out; `training: {on_oom: halve}` halves the rows there, once"
        yield loaded.error(f"{where} make no try before they train", key="launch.probe", hint=hint)
    if cluster.site is None or cluster.inside:
        return
    yield from _time(loaded, cluster.site)
    yield from _gpus(loaded, cluster, cluster.site)


def warnings(loaded: LoadedRecipe, cluster: Cluster) -> Iterator[str]:
    """What works there, but perhaps not as meant."""
    if cluster.site is None or cluster.inside or not cluster.site.queue.preemptible:
        return
    label, save_steps = cluster.site.label, loaded.recipe.checkpoint.save_steps
    if loaded.place("checkpoint.save_steps") is None:
        yield (
            f"`{label}` may end a job without notice, and what came after its last checkpoint is trained again: "
            f"`checkpoint.save_steps` says how much that is (now {save_steps} steps)"
        )
    if loaded.recipe.launch.max_requeues == 0:
        yield f"launch.max_requeues 0: `{label}` is preemptible, and a run that is preempted there stays where it is"


def _time(loaded: LoadedRecipe, site: Site) -> Iterator[RecipeError]:
    limit, longest, lead = loaded.recipe.launch.time_limit, site.queue.max_time, site.profile.stop_lead_s
    if limit is None:
        return
    if longest and seconds(limit) > seconds(longest):
        hint = f'write `time_limit: "{longest}"`: a run that needs more takes several jobs by itself'
        hint += _raise(site, f"queues.{site.queue_name}.max_time", "max_time")
        fault = f"{quote(limit)}, jobs on `{site.label}` may run {longest}"
        yield loaded.error(fault, key="launch.time_limit", hint=hint)
    if seconds(limit) <= lead:
        fault = (
            f"{quote(limit)}, but a job on `{site.label}` is asked to save and leave {lead} s before its end: at once"
        )
        hint = "allow more time" + _raise(site, "stop_lead_s", "stop_lead_s", word="lower")
        yield loaded.error(fault, key="launch.time_limit", hint=hint)


def _raise(site: Site, key: str, name: str, *, word: str = "raise") -> str:
    """Where the profile says it, if it does."""
    said = site.places.get(key)
    return f", or {word} `{name}` at {said}" if said else ""


def _gpus(loaded: LoadedRecipe, cluster: Cluster, site: Site) -> Iterator[RecipeError]:
    """GPUs of a queue without; the queues that have some are named."""
    launch = loaded.recipe.launch
    wanted, key = launch.gpus_per_node or launch.gpus, "launch.gpus_per_node" if launch.gpus_per_node else "launch.gpus"
    if wanted is None or cluster.gpus_per_node:
        return
    profile = site.profile
    others = [
        name
        for name, queue in profile.queues.items()
        if queue.gpu != "none" and (profile.gpus_per_node if queue.gpus_per_node is None else queue.gpus_per_node)
    ]
    name = key.partition(".")[2]
    choose = f"choose `--cluster {site.name}:{others[0]}`, or leave" if others else "leave"
    yield loaded.error(
        f"asks for {wanted} GPUs, nodes of `{site.label}` have none", key=key, hint=f"{choose} `{name}` out"
    )
