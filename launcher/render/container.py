"""A command in a site's container: which folders it sees, which variables, and how Apptainer and Pyxis are asked for it.

Everything that a job's own environment holds goes in: `--export=NONE` has kept the submitter's out of it, and SLURM's
variables are different on each node. Of two values, the image's would win; the names given here are those that must not
be the image's. Values never stand in a command, where others could read them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.cluster.profile import Container
from launcher.cluster.schema import Site
from launcher.errors import EnvironmentFault
from launcher.text import quote

# Packages beside those of the image (a module's, the user's own in ~/.local) would be taken instead of the image's.
_ITS_OWN_PYTHON = ("env", "-u", "PYTHONPATH", "-u", "PYTHONHOME", "PYTHONNOUSERSITE=1")
_SEPARATORS = re.compile(r"[,:\s]")


def binds(placement: Mapping[str, str | Sequence[str]], folders: Iterable[Path], run_dir: Path) -> tuple[Path, ...]:
    """The folders that a job must see, none of them inside another.

    A link is followed: both where a path stands and where it leads to are seen. Of a model in the hub's cache, whose
    files are links, that is the folder of all its revisions.

    Args:
        placement: `placement.json`: the model, the tokenizer, the adapter, the data files.
        folders: the site's: data, models, cache, scratch, and that of the secrets; those that are not there are left out.
        run_dir: the run.

    Raises:
        EnvironmentFault: a path holds what separates paths in the options of the runtimes, or is `/`.
    """
    named = [Path(each) for value in placement.values() for each in ([value] if isinstance(value, str) else value)]
    wanted = {run_dir, *(each for each in folders if each.exists()), *map(_folder, named)}
    wanted |= {each.resolve() for each in wanted} | {_folder(each.resolve()) for each in named}
    for each in sorted(wanted):
        if each == Path("/") or _SEPARATORS.search(str(each)):
            raise EnvironmentFault(
                f"{quote(str(each))} cannot be bound into a container",
                hint="choose a folder below `/` without blanks, commas and colons",
            )
    return tuple(sorted(each for each in wanted if not wanted & set(each.parents)))


@dataclass(frozen=True)
class Enclosure:
    """A container with what a run needs in it."""

    container: Container
    bound: tuple[Path, ...]
    workdir: Path
    cuda: bool
    """The plan uses GPUs."""
    names: tuple[str, ...] = ()
    """Variables whose values must not be the image's."""

    def step(self, srun: Sequence[str], argv: Sequence[str]) -> list[str]:
        """A command that srun starts on nodes, `srun` with its own options in front."""
        options = srun_options(self.container, self.bound, names=self.names, workdir=self.workdir)
        return [*srun, *options, *wrapped(argv, self.container, self.bound, cuda=self.cuda, workdir=self.workdir)]

    def alone(self, argv: Sequence[str]) -> list[str]:
        """A command on this node of a job. Pyxis makes containers for steps only."""
        here = ["srun", "--nodes=1", "--ntasks=1"] if self.container.runtime == "pyxis" else []
        return self.step(here, argv)

    def exports(self) -> list[str]:
        """Shell lines in front of all that."""
        return exports(self.container, self.names)


def enclosure(
    site: Site, placement: Mapping[str, str | Sequence[str]], run_dir: Path, cache: Path, *, cuda: bool
) -> Enclosure | None:
    """The profile's container for a run; None where there is none.

    Args:
        site: profile and queue.
        placement: `placement.json`.
        run_dir: the run.
        cache: prepared data, shared by runs.
        cuda: the plan uses GPUs.

    Raises:
        EnvironmentFault: a path cannot be bound.
    """
    profile = site.profile
    if profile.container is None:
        return None
    # Files of a run are further names of those in the cache beside it, which takes one mount for both.
    beside = run_dir.parent if cache.parent == run_dir.parent else cache
    secrets = [Path(profile.secrets).parent] if profile.secrets else []
    folders = [*(Path(each) for each in profile.paths.model_dump().values() if each), beside, *secrets]
    # A node's own folder need not be here; by a variable of the node it cannot be named here.
    scratch = (profile.scratch,) if profile.scratch and profile.scratch.startswith("/") else ()
    box = profile.container.model_copy(update={"binds": (*profile.container.binds, *scratch)})
    return Enclosure(box, binds(placement, folders, run_dir), run_dir, cuda, tuple(profile.env))


def wrapped(
    argv: Sequence[str], container: Container, bound: Sequence[Path], *, cuda: bool, workdir: Path
) -> list[str]:
    """A command as it runs in the container; for Pyxis the rest stands among the options of srun.

    Args:
        argv: the command, by its paths inside.
        container: the profile's.
        bound: what `binds` found.
        cuda: the plan uses GPUs.
        workdir: where it starts.
    """
    inside = [*_ITS_OWN_PYTHON, *argv]
    if container.runtime == "pyxis":
        return inside
    options = [word for each in (*map(str, bound), *container.binds) for word in ("--bind", each)]
    return [
        "apptainer", "exec", *(["--nv"] if cuda else []), *options, "--pwd", str(workdir), container.image, *inside,
    ]  # fmt: skip


def srun_options(container: Container, bound: Sequence[Path], *, names: Sequence[str] = (), workdir: Path) -> list[str]:
    """What srun is told: Pyxis makes the container itself; nothing where the command does.

    Args:
        container: the profile's.
        bound: what `binds` found.
        names: variables whose values must not be the image's.
        workdir: where the command starts.
    """
    if container.runtime != "pyxis":
        return []
    mounts = [f"{each}:{each}" for each in bound] + [
        each if ":" in each else f"{each}:{each}" for each in container.binds
    ]
    return [
        f"--container-image={container.image}",
        f"--container-mounts={','.join(mounts)}",
        "--no-container-mount-home",
        "--no-container-remap-root",
        f"--container-workdir={workdir}",
        *([f"--container-env={','.join(names)}"] if names else []),
    ]


def exports(container: Container, names: Sequence[str]) -> list[str]:
    """Shell lines in front of the command by which Apptainer takes these variables and not the image's.

    They copy a value that the shell has, so that none is written down.
    """
    if container.runtime != "apptainer":
        return []
    return [f'export APPTAINERENV_{name}="${{{name}-}}"' for name in names]


def _folder(path: Path) -> Path:
    """The folder to bind for a path of the placement."""
    folder = path if path.is_dir() else path.parent
    return folder.parents[1] if folder.parent.name == "snapshots" else folder
