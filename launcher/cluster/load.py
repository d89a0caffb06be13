"""A cluster by name."""

from __future__ import annotations

import os
from collections.abc import Mapping

from launcher.cluster import local
from launcher.cluster.schema import Cluster
from launcher.errors import UsageError

_LOCAL = "local"


def load_cluster(name: str, *, gpus: str | None = None, on: str | None = None, account: str | None = None) -> Cluster:
    """The hardware to plan for, with what runs on it have taught: this machine (`local`), hardware that is only named, or a site with a profile.

    Args:
        name: `local` (inside a SLURM job, its nodes), or a profile's name, with a queue of it after a colon: `alpha`, `alpha:preempt`.
        gpus: GPUs of this machine to use, as nvidia-smi numbers them (`0,2`), or `none`.
        on: hardware that is not here, for example `RTX4090x1`.
        account: SLURM account to charge; left out, the queue's or the profile's.

    Raises:
        UsageError: the name, a queue, a GPU or a combination does not exist.
        RecipeErrors: the faults of the profile, or of what was learned, with their places.
    """
    found = _found(name, gpus=gpus, on=on, account=account)
    from launcher.cluster import calibrations

    return calibrations.attached(found)


def _found(name: str, *, gpus: str | None, on: str | None, account: str | None) -> Cluster:
    if name != _LOCAL:
        from launcher.cluster import site

        _refuse(name, gpus=gpus, on=on)
        return site.load(name, account)
    if account is not None:
        raise UsageError(f"--account {account}: this machine has no accounts", hint="name a site: `--cluster NAME`")
    if on is None and gpus is None and allocated(os.environ):
        from launcher.cluster import allocation

        return allocation.cluster(os.environ)
    if on is None:
        return local.detect(gpus)
    if gpus is not None:
        raise UsageError(
            f"--gpus {gpus} chooses GPUs of this machine, --on {on} plans for another",
            hint=f"leave one of them out; the count belongs to the name, as in `--on {on.partition('x')[0]}x2`",
        )
    from launcher.cluster import named

    return named.load(on)


def allocated(environ: Mapping[str, str]) -> bool:
    """Whether this process belongs to a job of SLURM, whose nodes it may use."""
    return bool(environ.get("SLURM_JOB_ID") and environ.get("SLURM_JOB_NODELIST"))


def _refuse(name: str, *, gpus: str | None, on: str | None) -> None:
    """Options that do not go with a site."""
    if gpus is not None:
        hint = "write `launch: {gpus_per_node: N}` into the recipe"
        raise UsageError(f"--gpus {gpus} chooses GPUs of this machine, --cluster {name} runs on others", hint=hint)
    if on is not None:
        raise UsageError(f"--on {on} names hardware, --cluster {name} has its own", hint="leave one of them out")
