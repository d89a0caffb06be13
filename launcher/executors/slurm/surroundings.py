"""The folders and programs that a profile names, as they are on the machine where one submits."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from launcher.cluster.schema import Site
from launcher.errors import EnvironmentFault
from launcher.executors.findings import Finding
from launcher.executors.slurm.doctor import finding
from launcher.runs import secrets_file

_WRITTEN = ("cache", "runs")
"""Folders that jobs write to; the others are read."""


def findings(site: Site) -> list[Finding]:
    """What is not there, or may not be used. `scratch` is each node's own and is not looked at."""
    return [*_folders(site), *_python(site), *_container(site), *_secrets(site)]


def _folders(site: Site) -> Iterator[Finding]:
    for name, folder in site.profile.paths.model_dump(exclude_none=True).items():
        key, path = f"paths.{name}", Path(folder)
        if name in _WRITTEN:
            there = next((each for each in (path, *path.parents) if each.exists()), path)
            if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
                hint = "make it, or write a folder of yours"
                yield finding(site, "error", key, f"`{folder}` cannot be written", hint)
        elif not path.is_dir():
            yield finding(site, "error", key, f"no folder `{folder}` here", "make it, or write another")
        elif not os.access(path, os.R_OK | os.X_OK):
            yield finding(site, "error", key, f"`{folder}` cannot be read", "ask its owner, or write another")


def _python(site: Site) -> Iterator[Finding]:
    python = site.profile.python
    if python and shutil.which(python) is None:
        hint = "make the environment there (`python3 -m venv …`), or remove the key: the one that submits is used"
        if site.profile.modules and "/" not in python:
            return  # a module brings it
        yield finding(site, "error", "python", f"no interpreter `{python}` here", hint)


def _container(site: Site) -> Iterator[Finding]:
    box = site.profile.container
    if box is None:
        return
    if box.runtime == "apptainer" and shutil.which("apptainer") is None and not site.profile.modules:
        hint = "name the module that brings it: `modules: [apptainer]`"
        yield finding(site, "warning", "container.runtime", "no `apptainer` on this machine", hint)
    if box.image.startswith("/") and not os.access(box.image, os.R_OK):
        message = f"the image `{box.image}` cannot be read here"
        yield finding(site, "error", "container.image", message, "build it there, or write where it is")
    for number, bind in enumerate(box.binds):
        folder = bind.partition(":")[0]
        if not Path(folder).exists():
            message = f"no folder `{folder}` here"
            yield finding(site, "warning", f"container.binds.{number}", message, "the nodes need it, or a job fails")


def _secrets(site: Site) -> Iterator[Finding]:
    if site.profile.secrets is None:
        return
    try:
        secrets_file.read(Path(site.profile.secrets))
    except EnvironmentFault as error:
        for line in error.message.splitlines():
            yield finding(site, "error", "secrets", line, error.hint or "")
