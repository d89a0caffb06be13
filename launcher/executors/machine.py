"""This machine, as `launcher doctor` looks at it: versions, GPUs, disk, hub. Nothing here loads torch."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from launcher.cluster import local
from launcher.executors.findings import Finding
from launcher.text import gib

_DISTRIBUTION = "finetune-launcher"
_PIN = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)==(?P<version>[^;\s]+)\s*;.*extra == ['\"]train['\"]")
_LOW_GIB = 20
_HUB = "https://huggingface.co"
_HUB_TIMEOUT_S = 5


def findings(runs: Path) -> list[Finding]:
    """What this machine has, and what it lacks to train; `runs` is the folder of the run directories."""
    return [
        Finding("ok", "python", platform.python_version()),
        *packages(tested()),
        *_gpus(),
        _disk("disk", runs),
        _disk("cache", cache()),
        _hub(),
    ]


def tested() -> dict[str, str]:
    """The versions that this release was tested with, by name."""
    try:
        lines = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    return {pin["name"]: pin["version"] for line in lines if (pin := _PIN.match(line))}


def packages(pins: dict[str, str]) -> Iterator[Finding]:
    """Each package that trains, against its tested version."""
    for name, wanted in pins.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding("error", name, "not installed: this environment can plan but not train", _install())
            continue
        if found.partition("+")[0] == wanted:
            yield Finding("ok", name, f"{found}, as tested")
        else:
            yield Finding("warning", name, f"{found}; tested with {wanted}", f"pip install '{name}=={wanted}'")


def cache() -> Path:
    """Where models and data sets from the hub lie."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HOME") or default).expanduser()


def _install() -> str:
    return f"pip install '{_DISTRIBUTION}[train,eval]'"


def _gpus() -> Iterator[Finding]:
    here = local.detect()
    if here.gpu:
        free = f"{here.gpu.free_gib:g} of {here.gpu.memory_gib:g} GiB free"
        yield Finding("ok", "gpus", f"{here.gpus_per_node} × {here.gpu.name}, {free}")
    elif not here.notes:
        yield Finding("ok", "gpus", "none: runs here train on the CPU")
    for note in here.notes:
        yield Finding("warning", "gpus", note, "does `nvidia-smi` answer?")
    cores = f"{here.cpus_per_node} cores, {here.memory_gib:.0f} GiB of memory{', WSL' if here.wsl else ''}"
    yield Finding("ok", "machine", cores)


def _disk(key: str, folder: Path) -> Finding:
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(there).free
    said = f"{gib(free)} free in {there}"
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding("error", key, f"{there} cannot be written", "name another: `--runs DIR`, or HF_HOME")
    if free < _LOW_GIB * 2**30:
        return Finding(
            "warning", key, said, "a checkpoint of a 7B model trained in full takes 90 GiB, an adapter's 1 GiB"
        )
    return Finding("ok", key, said)


def _hub() -> Finding:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return Finding("ok", "hub", "HF_HUB_OFFLINE is set: only what is in the cache")
    address = os.environ.get("HF_ENDPOINT") or _HUB
    if not address.startswith("https://"):
        return Finding(
            "warning", "hub", f"HF_ENDPOINT {address} is not asked", "write an address that starts with https://"
        )
    try:
        urlopen(Request(address, method="HEAD"), timeout=_HUB_TIMEOUT_S).close()  # noqa: S310 - https only, see above
    except HTTPError:
        pass  # it answered
    except OSError as fault:
        reason = getattr(fault, "reason", fault)
        hint = "bring models and data where there is internet (`launcher fetch`), then train here"
        return Finding("warning", "hub", f"{address} cannot be reached: {reason}", hint)
    return Finding("ok", "hub", f"{address} answers")
