"""`run.json`: what a run is, written when it is created and kept for its whole life."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from launcher.runs.changes import Change
from launcher.runs.files import read_json, write_json
from launcher.runs.paths import RunDir

SplitBy = Literal["person", "policy", "probe"]
"""Who split the batch anew: a person, `training.on_oom: halve`, or `launch.probe`."""


@dataclass(frozen=True)
class Split:
    """Rows per device with which a run goes on, because those of its recipe did not fit the memory."""

    recipe: int
    now: int
    asked_by: SplitBy


@dataclass(frozen=True)
class Record:
    """A run's id, name and identity. `created` is Unix time in seconds.

    The id travels with the directory: trackers and surviving processes are recognised by it.
    """

    id: str
    name: str
    created: float
    identity: dict[str, Any]
    prepared: str | None = None
    """Hash of all in the plan that the prepared data depends on; None before it is prepared."""
    changes: tuple[dict[str, Any], ...] = ()
    """Changes that were allowed, oldest first: time, key, old, new, and the step of the newest checkpoint then."""
    split: Split | None = None
    """Another split of the batch than the recipe's; it holds as long as the recipe's stays what it was."""


def new(name: str, identity: dict[str, Any]) -> Record:
    """The record of a run that starts now."""
    return Record(str(uuid.uuid4()), name, round(time.time(), 3), plain(identity))


def plain(identity: dict[str, Any]) -> dict[str, Any]:
    """An identity as JSON gives it back: a tuple and a list of the same values are the same."""
    return dict(json.loads(json.dumps(identity)))


def write(run_dir: RunDir, record: Record) -> None:
    """Replace `run.json`."""
    write_json(run_dir.record, asdict(record))


def read(run_dir: RunDir) -> Record | None:
    """The record; None when the directory is not a run."""
    value = read_json(run_dir.record)
    if value is None or not isinstance(value.get("id"), str) or not isinstance(value.get("identity"), dict):
        return None
    return Record(
        value["id"],
        str(value.get("name")),
        float(value.get("created", 0)),
        value["identity"],
        value.get("prepared"),
        tuple(value.get("changes") or ()),
        Split(**value["split"]) if value.get("split") else None,
    )


def allow(record: Record, identity: dict[str, Any], changes: Sequence[Change], *, step: int) -> Record:
    """The record with a changed identity, and what was changed when; `step` is that of the newest checkpoint, 0 without one."""
    now = round(time.time(), 3)
    added = tuple({"time": now, "step": step, "key": key, "old": old, "new": value} for key, old, value in changes)
    return replace(record, identity=plain(identity), changes=(*record.changes, *added))
