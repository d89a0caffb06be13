"""Changes of what a run is: how two identities differ, how that reads, and what was allowed since a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DATA_FILES = "data.files"
"""What `--allow-change` calls the contents of the data files."""

Change = tuple[str, Any, Any]
"""Key, old value, new value; None where the key is absent."""


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Each key that differs."""
    keys = sorted({*old, *new})
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def describe(change: Change) -> str:
    """One change in words: `training.learning_rate: 0.0002 → 0.0001`."""
    key, old, new = change
    return f"{key}: {'not set' if old is None else old} → {'not set' if new is None else new}"


def listed(changes: Sequence[Change]) -> str:
    """Changes as the indented lines below an error."""
    return "\n".join(f"       {describe(change)}" for change in changes)


def since(step: int, allowed: Sequence[Mapping[str, Any]]) -> list[Change]:
    """Of the changes in `run.json`, those that were allowed after the checkpoint of `step` was saved, oldest first."""
    return [(each["key"], each["old"], each["new"]) for each in allowed if each.get("step", step) >= step]


def undone(identity: Mapping[str, Any], changes: Sequence[Change]) -> dict[str, Any]:
    """The identity as it was before these changes."""
    before = dict(identity)
    for key, old, _ in reversed([each for each in changes if each[0] != DATA_FILES]):
        before[key] = old
        if old is None:
            del before[key]
    return before
