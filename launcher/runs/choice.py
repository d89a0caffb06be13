"""Which directory a recipe runs in: the same mathematics continues, other mathematics gets a directory of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from launcher.errors import UsageError
from launcher.runs import attempts, lock, names, record, state, submissions
from launcher.runs.files import read_json
from launcher.runs.paths import RunDir

Action = Literal["start", "update", "continue", "finished", "running"]


@dataclass(frozen=True)
class Choice:
    """Where a recipe runs. `differs_from` is the latest run of this name with another identity, when a new one starts.

    `update`: a run in which nothing was trained takes the recipe's identity.
    """

    action: Action
    run_dir: RunDir
    differs_from: RunDir | None = None


def choose(runs: Path, name: str, identity: dict[str, Any]) -> Choice:
    """NAME, NAME-2, …: the first run with this identity, else one in which nothing was trained, else the first free name.

    Raises:
        UsageError: something that is not a run stands in the way.
    """
    differs_from: RunDir | None = None
    spare: RunDir | None = None
    for run_dir in names.series(runs, name):
        known = record.read(run_dir)
        if known is None:
            if spare is not None:
                return Choice("update", spare)
            _free(run_dir)
            return Choice("start", run_dir, differs_from)
        if known.identity == record.plain(identity):
            return Choice(_action(run_dir), run_dir)
        differs_from = run_dir
        spare = spare or (run_dir if not lock.held(run_dir) and reusable(run_dir) else None)
    raise AssertionError("the series of names has no end")


def reusable(run_dir: RunDir) -> bool:
    """Nothing was trained in it, and nobody is about to: it was tried, and has not been given another identity since."""
    free = not claimed(run_dir) and not submissions.alive(run_dir)
    return bool(attempts.numbers(run_dir)) and free and not state.trained(run_dir)


def claimed(run_dir: RunDir) -> bool:
    """It has an identity that no attempt had yet: it belongs to the launcher that is about to start it."""
    known, tried = record.read(run_dir), attempts.numbers(run_dir)
    if known is None or not tried:
        return True
    made_by = read_json(run_dir.attempt_plan(tried[-1])) or {}
    return record.plain(made_by.get("identity") or {}) != known.identity


def _action(run_dir: RunDir) -> Action:
    found = state.derive(run_dir).name
    if found == "done":
        return "finished"
    return "running" if found == "running" or submissions.alive(run_dir) else "continue"


def _free(run_dir: RunDir) -> None:
    root = run_dir.root
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(f"{root} exists and is not a run", hint="move it away, or choose another name: `--set name=…`")
