"""Which checkpoints of a run can be resumed. Reading only; the worker writes and commits them."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from launcher.runs.files import read_json
from launcher.runs.paths import RunDir

MANIFEST = "MANIFEST.json"
_FOLDER = re.compile(r"checkpoint-([0-9]{1,12})")


@dataclass(frozen=True)
class Checkpoint:
    """One folder `checkpoint-N` and what its manifest says."""

    path: Path
    step: int
    manifest: dict[str, Any]


@dataclass(frozen=True)
class Refused:
    """A folder that looks like a checkpoint and cannot be resumed, with the reason."""

    path: Path
    step: int
    reason: str


@dataclass(frozen=True)
class Choice:
    """The newest complete checkpoint, if any, and the newer ones that were passed over."""

    checkpoint: Checkpoint | None
    passed_over: tuple[Refused, ...]


def folders(run_dir: RunDir) -> tuple[tuple[int, Path], ...]:
    """(step, folder) of everything named `checkpoint-N`, newest first; complete or not."""
    if not run_dir.checkpoints.is_dir():
        return ()
    found = ((_FOLDER.fullmatch(path.name), path) for path in run_dir.checkpoints.iterdir() if path.is_dir())
    return tuple(sorted(((int(match[1]), path) for match, path in found if match), reverse=True))


def newest(run_dir: RunDir) -> Choice:
    """The checkpoint to resume: the newest whose manifest is there and whose files have the sizes it lists."""
    passed_over: list[Refused] = []
    for step, path in folders(run_dir):
        checked = check(path, step)
        if isinstance(checked, Checkpoint):
            return Choice(checked, tuple(passed_over))
        passed_over.append(checked)
    return Choice(None, tuple(passed_over))


def complete(run_dir: RunDir) -> tuple[Checkpoint, ...]:
    """All complete checkpoints, newest first."""
    checked = (check(path, step) for step, path in folders(run_dir))
    return tuple(each for each in checked if isinstance(each, Checkpoint))


def check(path: Path, step: int) -> Checkpoint | Refused:
    """Compare a folder with its manifest (`{"step": N, "files": {name: bytes}, …}`), which is written last."""
    manifest = read_json(path / MANIFEST)
    if manifest is None:
        return Refused(path, step, f"has no readable {MANIFEST}: it was not completed")
    reason = _fault(path, step, manifest)
    return Refused(path, step, reason) if reason else Checkpoint(path, step, manifest)


def _fault(path: Path, step: int, manifest: dict[str, Any]) -> str | None:
    files = manifest.get("files")
    if manifest.get("step") != step or not isinstance(files, dict) or not files:
        return f"{MANIFEST} does not describe step {step}"
    return next((fault for name, size in files.items() if (fault := _file_fault(path, name, size))), None)


def _file_fault(folder: Path, name: str, size: int) -> str | None:
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts:
        return f"{MANIFEST} names a file outside the checkpoint: {name}"
    try:
        found = (folder / inside).stat().st_size
    except OSError:
        return f"{name} is missing"
    return None if found == size else f"{name} has {found} bytes, its manifest says {size}"


def sweep(run_dir: RunDir) -> None:
    """Remove checkpoints that were being written when a process died. Only the holder of the run's lock may call it."""
    shutil.rmtree(run_dir.staging, ignore_errors=True)
