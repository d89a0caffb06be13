"""Which checkpoints of a run can be resumed, and where damaged ones go. The worker writes and commits them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from launcher.runs.files import sha256_file
from launcher.runs.paths import RunDir

MANIFEST = "MANIFEST.json"
SCHEMA = 2
"""Version of the manifest; 2 lists sizes and sha256 of all files and seals itself."""

_FOLDER = re.compile(r"checkpoint-([0-9]{1,12})")
_READERS = 4
"""Files read at a time: hashing leaves Python's lock, and storage answers several readers faster than one."""


@dataclass(frozen=True)
class Checkpoint:
    """One folder `checkpoint-N` and what its manifest says."""

    path: Path
    step: int
    manifest: dict[str, Any]

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return sum(int(facts["size"]) for facts in self.manifest["files"].values())


@dataclass(frozen=True)
class Refused:
    """A folder that looks like a checkpoint and cannot be resumed, with the reason; it names the damaged file."""

    path: Path
    step: int
    reason: str


@dataclass(frozen=True)
class Choice:
    """The newest complete checkpoint, if any, and the newer ones that were passed over."""

    checkpoint: Checkpoint | None
    passed_over: tuple[Refused, ...]


class _Fault(Exception):
    """What is wrong with a checkpoint, in words."""


def folders(run_dir: RunDir) -> tuple[tuple[int, Path], ...]:
    """(step, folder) of everything named `checkpoint-N`, newest first; complete or not."""
    if not run_dir.checkpoints.is_dir():
        return ()
    found = ((_FOLDER.fullmatch(path.name), path) for path in run_dir.checkpoints.iterdir() if path.is_dir())
    return tuple(sorted(((int(match[1]), path) for match, path in found if match), reverse=True))


def newest(run_dir: RunDir, *, contents: bool = True) -> Choice:
    """The checkpoint to resume: the newest whose manifest is whole and whose files are those it lists.

    Args:
        run_dir: the run.
        contents: compare the sha256 of every file, which reads all of them; otherwise only their sizes.
    """
    passed_over: list[Refused] = []
    for step, path in folders(run_dir):
        checked = check(path, step, contents=contents)
        if isinstance(checked, Checkpoint):
            return Choice(checked, tuple(passed_over))
        passed_over.append(checked)
    return Choice(None, tuple(passed_over))


def complete(run_dir: RunDir) -> tuple[Checkpoint, ...]:
    """All checkpoints whose files are there with the sizes they should have, newest first."""
    checked = (check(path, step, contents=False) for step, path in folders(run_dir))
    return tuple(each for each in checked if isinstance(each, Checkpoint))


def check(path: Path, step: int, *, contents: bool = True) -> Checkpoint | Refused:
    """Compare a folder with its manifest, which is written last."""
    try:
        manifest = _read_manifest(path, step)
        _refuse(_size_fault(path, name, facts) for name, facts in manifest["files"].items())
        if contents:
            with ThreadPoolExecutor(_READERS) as readers:
                _refuse(readers.map(lambda item: _content_fault(path, *item), manifest["files"].items()))
    except _Fault as fault:
        return Refused(path, step, str(fault))
    return Checkpoint(path, step, manifest)


def manifest_text(body: Mapping[str, Any]) -> str:
    """A manifest as it stands in its file: sealed by the sha256 of all that stands above the seal."""
    return _json({**body, "sha256": hashlib.sha256(_json(body).encode()).hexdigest()})


def quarantine(run_dir: RunDir, refused: Refused) -> Path:
    """Put a damaged checkpoint aside, with the reason beside it: it may hold what a person wants to look at.

    Only the process that continues the run may call it.

    Raises:
        OSError: it cannot be moved; it will be passed over again.
    """
    taken = 0
    run_dir.quarantine.mkdir(parents=True, exist_ok=True)
    while (target := run_dir.quarantine / f"{refused.path.name}{f'.{taken}' if taken else ''}").exists():
        taken += 1
    refused.path.rename(target)
    target.with_name(f"{target.name}.reason.txt").write_text(f"{refused.reason}\n", encoding="utf-8")
    return target


def sweep(run_dir: RunDir) -> None:
    """Remove checkpoints that were being written or deleted when a process died. Only the holder of the lock may call it.

    The folder is renamed first: whoever of an earlier attempt still writes into it finds it gone, and commits nothing.
    """
    discard(run_dir, run_dir.staging)
    for leftover in (run_dir.trash, *run_dir.model_drafts, *run_dir.merged_drafts):
        shutil.rmtree(leftover, ignore_errors=True)


def discard(run_dir: RunDir, folder: Path) -> None:
    """Delete a folder under the checkpoints: renamed first, so that a kill leaves no half of it under its name."""
    taken = 0
    while (aside := run_dir.trash / f"{folder.name.lstrip('.')}.{taken}").exists():
        taken += 1
    try:
        aside.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(aside)
    except OSError:  # it is not there, or the disk takes no new name: delete it where it is
        aside = folder
    shutil.rmtree(aside, ignore_errors=True)


def _read_manifest(folder: Path, step: int) -> dict[str, Any]:
    try:
        text = (folder / MANIFEST).read_bytes().decode()
        manifest = json.loads(text)
    except FileNotFoundError:
        raise _Fault(f"{MANIFEST} is missing: it was not completed") from None
    except (OSError, ValueError):
        raise _Fault(f"{MANIFEST} cannot be read: it is damaged") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        written = manifest.get("schema") if isinstance(manifest, dict) else None
        raise _Fault(f"{MANIFEST} has schema {written}, this version of launcher reads {SCHEMA}")
    body = {key: value for key, value in manifest.items() if key != "sha256"}
    if text != manifest_text(body):
        raise _Fault(f"{MANIFEST} is damaged: its contents do not match its seal")
    if manifest.get("step") != step:
        raise _Fault(f"{MANIFEST} describes step {manifest.get('step')}, not {step}")
    if not manifest.get("files"):
        raise _Fault(f"{MANIFEST} lists no files")
    return manifest


def _refuse(faults: Iterable[str | None]) -> None:
    if found := [fault for fault in faults if fault]:
        raise _Fault("; ".join(found))


def _size_fault(folder: Path, name: str, facts: Mapping[str, Any]) -> str | None:
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts:
        return f"{MANIFEST} names a file outside the checkpoint: {name}"
    try:
        found = (folder / inside).stat().st_size
    except OSError:
        return f"{name} is missing"
    return None if found == facts["size"] else f"{name} has {found:,} bytes, its manifest says {facts['size']:,}"


def _content_fault(folder: Path, name: str, facts: Mapping[str, Any]) -> str | None:
    try:
        found = sha256_file(folder / name)
    except OSError as error:
        return f"{name} cannot be read: {(error.strerror or str(error)).lower()}"
    return None if found == facts["sha256"] else f"{name} has other contents than were saved (sha256 differs)"


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
