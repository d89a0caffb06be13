"""Have the data files changed since they were prepared? Prepared rows and their source must not part silently."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Placement = Mapping[str, str | Sequence[str]]
"""Key → absolute path or paths, as in `placement.json`."""


def data_files(placement: Placement) -> dict[str, tuple[Path, ...]]:
    """The data files by label: the entries `data.LABEL` of a placement."""
    entries = {key.removeprefix("data."): value for key, value in placement.items() if key.startswith("data.")}
    return {
        label: tuple(Path(each) for each in ([value] if isinstance(value, str) else value))
        for label, value in entries.items()
    }


def fingerprint(placement: Placement) -> dict[str, list[dict[str, Any]]]:
    """Name, size, time of change and SHA-256 of each data file. Reads every file once.

    Raises:
        OSError: a file cannot be read.
    """
    return {label: [_facts(path) for path in paths] for label, paths in data_files(placement).items()}


def changes(known: Mapping[str, Sequence[Mapping[str, Any]]], placement: Placement) -> tuple[str, ...]:
    """One sentence for each data file that differs from what is `known`. A missing file is no change: its rows are prepared.

    Files whose size and time of change are as before are not read again.
    """
    found: list[str] = []
    for label, paths in data_files(placement).items():
        for path in filter(Path.is_file, paths):
            same_name = [entry for entry in known.get(label, ()) if entry["name"] == path.name]
            if change := _change(path, same_name):
                found.append(f"{label}: {path} {change}")
    return tuple(found)


def missing(placement: Placement) -> tuple[tuple[str, Path], ...]:
    """(label, path) of the data files that are not there."""
    return tuple((label, path) for label, paths in data_files(placement).items() for path in paths if not path.exists())


def _change(path: Path, same_name: Sequence[Mapping[str, Any]]) -> str | None:
    if not same_name:
        return "is new"
    status = path.stat()
    same_size = [entry for entry in same_name if entry["bytes"] == status.st_size]
    if not same_size:
        return f"was {same_name[0]['bytes']:,} bytes, is {status.st_size:,}"
    if any(entry["mtime_ns"] == status.st_mtime_ns for entry in same_size):
        return None
    sha256 = _sha256(path)
    return None if any(entry["sha256"] == sha256 for entry in same_size) else "has other contents of the same size"


def _facts(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {
        "name": path.name,
        "bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "sha256": _sha256(path),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
