"""A site with a profile, `--cluster alpha:preempt`, as the plan sees it."""

from __future__ import annotations

import getpass
import os
import re
from pathlib import Path
from typing import Any

from launcher.cluster import local
from launcher.cluster.checks import NO_GPU
from launcher.cluster.named import whole_gpu
from launcher.cluster.profile import Profile
from launcher.cluster.profiles import LoadedProfile, find, own_folder, read_profile
from launcher.cluster.schema import Cluster, Site
from launcher.errors import Place, RecipeError, RecipeErrors, UsageError
from launcher.recipe.patterns import WORD, WORDS
from launcher.text import nearest_of, quote

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def load(name: str, account: str | None = None) -> Cluster:
    """The queue of a site that `name` means.

    Args:
        name: profile, or `profile:queue`; without a queue the first of the profile.
        account: account to charge, before the queue's and the profile's.

    Raises:
        UsageError: no such profile or queue, or a word that is no account.
        RecipeErrors: the faults of the profile; among them variables in paths that are not set here.
    """
    name, colon, queue_name = name.partition(":")
    loaded = read_profile(find(name))
    queues = loaded.profile.queues
    queue_name = queue_name if colon else next(iter(queues))
    _check_queue(name, queue_name, loaded)
    if account is not None and not re.fullmatch(WORD, account):
        raise UsageError(f"--account {quote(account)}: not an account", hint=f"write {WORDS[WORD]}")
    profile = expanded(loaded)
    chosen = account or queues[queue_name].account or profile.account or _of_the_shell()
    return cluster_of(Site(name, profile, queue_name, chosen, loaded.source, loaded.places))


def sites(name: str) -> list[Site]:
    """The profile called `name` with each of its queues, in the order they are written.

    Raises:
        UsageError: no such profile, or it has not the queue that `name` may hold.
        RecipeErrors: its faults.
    """
    name, colon, queue_name = name.partition(":")
    loaded = read_profile(find(name))
    if colon:
        _check_queue(name, queue_name, loaded)
    profile = expanded(loaded)
    return [
        Site(name, profile, queue_name, queue.account or profile.account, loaded.source, loaded.places)
        for queue_name, queue in profile.queues.items()
    ]


def _of_the_shell() -> str | None:
    """What sbatch itself would charge where nobody names an account."""
    named = os.environ.get("SBATCH_ACCOUNT", "")
    return named if re.fullmatch(WORD, named) else None


def _check_queue(name: str, queue_name: str, loaded: LoadedProfile) -> None:
    queues = loaded.profile.queues
    if queue_name not in queues:
        hint = nearest_of(queue_name, queues, f"queues of {loaded.source}: {', '.join(queues)}")
        raise UsageError(f"`{name}` has no queue {quote(queue_name)}", hint=hint)


def cluster_of(site: Site) -> Cluster:
    """The site as the plan sees it."""
    profile, queue = site.profile, site.queue
    gpu = queue.gpu or profile.gpu
    count = profile.gpus_per_node if queue.gpus_per_node is None else queue.gpus_per_node
    if gpu in (None, NO_GPU) or count == 0:
        gpu, count = None, 0
    return Cluster(
        name=site.label,
        gpu=whole_gpu(gpu) if gpu else None,
        gpus_per_node=count,
        cpus_per_node=queue.cpus_per_node or profile.cpus_per_node,
        memory_gib=queue.memory_gib_per_node or profile.memory_gib_per_node,
        nodes=queue.max_nodes,
        paths=_paths(profile),
        site=site,
    )


def _paths(profile: Profile) -> dict[str, str]:
    """The site's folders; the environment fills what the profile leaves out, and says where runs go."""
    here = local.paths(os.environ)
    own = {key: value for key, value in profile.paths.model_dump().items() if value}
    return {**here, **own, **{key: here[key] for key in ("runs",) if key in here}}


def expanded(loaded: LoadedProfile) -> Profile:
    """The profile with `~` and `$VARIABLE` replaced in what is the same on every node; `scratch` is the node's own.

    Without `secrets`, the user's own file is named where there is one.

    Raises:
        RecipeErrors: a variable that is not set here.
    """
    faults: list[RecipeError] = []

    def path(value: str, key: str) -> str:
        return _expand(value, key, loaded, faults)

    profile = loaded.profile
    folders = {key: path(value, f"paths.{key}") for key, value in profile.paths.model_dump().items() if value}
    update: dict[str, Any] = {"paths": profile.paths.model_copy(update=folders)}
    for key in ("python", "secrets"):
        if value := getattr(profile, key):
            update[key] = path(value, key)
    own_secrets = own_folder().parent / "secrets.env"
    if profile.secrets is None and own_secrets.exists():
        update["secrets"] = str(own_secrets)
    if box := profile.container:
        binds = tuple(path(bind, f"container.binds.{number}") for number, bind in enumerate(box.binds))
        image, python = path(box.image, "container.image"), path(box.python, "container.python")
        update["container"] = box.model_copy(update={"image": image, "binds": binds, "python": python})
    if faults:
        raise RecipeErrors(faults)
    return profile.model_copy(update=update)


def _expand(value: str, key: str, loaded: LoadedProfile, faults: list[RecipeError]) -> str:
    known = {**dict.fromkeys(("USER", "LOGNAME"), getpass.getuser()), **os.environ}
    missing = [name for name in map(_name, _VARIABLE.finditer(value)) if not known.get(name)]
    if missing:
        place = loaded.places.get(key, Place(loaded.source))
        hint = f"set {missing[0]} here, or write the folder"
        faults.append(RecipeError(f"`${missing[0]}` is not set here", key=key, place=place, hint=hint))
        return value
    filled = _VARIABLE.sub(lambda found: known[_name(found)], value)
    return str(Path.home()) + filled[1:] if filled.startswith("~/") else filled


def _name(found: re.Match[str]) -> str:
    return found[1] or found[2]
