"""Whether there is room for a run where it writes: its directory, the folder for temporary files, shared memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from launcher.runs import checkpoints
from launcher.runs.paths import RunDir
from launcher.runs.preflight import Check, Finding
from launcher.text import gib
from launcher.worker.space import mount_of

_MARGIN = 1.2
"""The next checkpoint may be a little larger than the last."""
_LEAST_OF_A_RUN = 256 * 2**20
_LEAST_ELSEWHERE = 64 * 2**20
"""Compiled kernels and sockets in the one, segments of NCCL and of data loaders in the other."""
_INODES = 200
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - nothing is created there


def checks(run_dir: RunDir, environ: Mapping[str, str]) -> dict[str, Check]:
    """One check for each folder. A full run directory is nobody's fault here; the other two belong to this node."""
    last = checkpoints.newest(run_dir, contents=False).checkpoint
    wanted = max(_LEAST_OF_A_RUN, int(_MARGIN * last.bytes) if last else 0)
    return {
        "room: run": _room(run_dir.root, wanted, "fault"),
        "room: temporary files": _temporary(environ),
        "room: shared memory": _room(_SHARED_MEMORY, _LEAST_ELSEWHERE, "bad"),
    }


def _temporary(environ: Mapping[str, str]) -> Check:
    named = environ.get("TMPDIR")
    if named and not os.access(named, os.W_OK | os.X_OK):
        return Check("warning", f"TMPDIR is {named}, which is not there or not writable; Python takes another folder")
    return _room(Path(named or "/tmp"), _LEAST_ELSEWHERE, "bad")  # noqa: S108


def _room(folder: Path, wanted: int, otherwise: Finding) -> Check:
    try:
        facts = os.statvfs(folder)
    except OSError as error:
        return Check("warning", f"{folder}: {error.strerror}")
    free = facts.f_bavail * facts.f_frsize
    if free < wanted:
        return Check(otherwise, f"{mount_of(folder)} has {gib(free)} free, {gib(wanted)} are needed for {folder}")
    if facts.f_files and facts.f_favail < _INODES:
        return Check(otherwise, f"{mount_of(folder)} has {facts.f_favail:,} inodes left for {folder}")
    return Check("ok", f"{gib(free)} free")
