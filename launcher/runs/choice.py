"""Which directory a recipe runs in: the same mathematics continues, other mathematics gets a directory of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from launcher.errors import UsageError
from launcher.runs import names, record, state
from launcher.runs.paths import RunDir

Action = Literal["start", "continue", "finished", "running"]


@dataclass(frozen=True)
class Choice:
    """Where a recipe runs. `differs_from` is the latest run of this name with another identity, when a new one starts."""

    action: Action
    run_dir: RunDir
    differs_from: RunDir | None = None


def choose(runs: Path, name: str, identity: dict[str, Any]) -> Choice:
    """NAME, NAME-2, …: the first run with this identity, else the first name that is free.

    Raises:
        UsageError: something that is not a run stands in the way.
    """
    differs_from: RunDir | None = None
    for run_dir in names.series(runs, name):
        known = record.read(run_dir)
        if known is None:
            _free(run_dir)
            return Choice("start", run_dir, differs_from)
        if known.identity == record.plain(identity):
            return Choice(_action(run_dir), run_dir)
        differs_from = run_dir
    raise AssertionError("the series of names has no end")


def _action(run_dir: RunDir) -> Action:
    found = state.derive(run_dir).name
    if found == "done":
        return "finished"
    return "running" if found == "running" else "continue"


def _free(run_dir: RunDir) -> None:
    root = run_dir.root
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(f"{root} exists and is not a run", hint="move it away, or choose another name: `--set name=…`")
