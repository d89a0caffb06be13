"""Have the data files changed since they were prepared? Prepared rows and their source must not part silently."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from launcher.runs.files import sha256_file

Placement = Mapping[str, str | Sequence[str]]
"""Key → absolute path or paths, as in `placement.json`."""

FileFact = Sequence[str | int]
"""Name, size in bytes and SHA-256 of one file, as in `data.json` under `files`."""


def data_files(placement: Placement) -> dict[str, tuple[Path, ...]]:
    """The data files of each source: the entries `data.LABEL` of a placement."""
    entries = {key: value for key, value in placement.items() if key.startswith("data.")}
    return {
        key: tuple(Path(each) for each in ([value] if isinstance(value, str) else value))
        for key, value in entries.items()
    }


def changes(
    known: Mapping[str, Sequence[FileFact]], placement: Placement, sha256: Callable[[Path], str] = sha256_file
) -> tuple[str, ...]:
    """One sentence for each data file that differs from what is known of it.

    A missing file is no change: its rows are prepared. `sha256` is asked for files whose size is as before.
    """
    found = []
    for key, paths in data_files(placement).items():
        for path in filter(Path.is_file, paths):
            same_name = [fact for fact in known.get(key, ()) if fact[0] == path.name]
            if change := _change(path, same_name, sha256):
                found.append(f"{path} {change}")
    return tuple(found)


def missing(placement: Placement) -> tuple[tuple[str, Path], ...]:
    """(key, path) of the data files that are not there."""
    return tuple((key, path) for key, paths in data_files(placement).items() for path in paths if not path.exists())


def _change(path: Path, same_name: Sequence[FileFact], sha256: Callable[[Path], str]) -> str | None:
    if not same_name:
        return "is new"
    size = path.stat().st_size
    same_size = [fact for fact in same_name if fact[1] == size]
    if not same_size:
        return f"had {same_name[0][1]:,} bytes and now has {size:,}"
    found = sha256(path)
    return None if any(fact[2] == found for fact in same_size) else f"has other contents ({size:,} bytes as before)"
