"""Making a run directory from a plan, and bringing an existing one up to date."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from launcher.errors import UsageError
from launcher.executors.prepared import recipe_keys
from launcher.plan import data_files, split
from launcher.plan.make import Planned
from launcher.plan.types import Plan
from launcher.render.files import texts
from launcher.runs import record
from launcher.runs.files import write_text
from launcher.runs.paths import RunDir


def create(run_dir: RunDir, planned: Planned) -> bool:
    """Make a whole run directory in one step; False when somebody else was faster.

    Raises:
        OSError: the directory cannot be written; nothing is left of it.
    """
    runs = run_dir.root.parent
    runs.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{run_dir.name}.", dir=runs))
    try:
        for path, text in texts(planned, run_dir.root).items():
            write_text(draft / path.relative_to(run_dir.root), text)
        record.write(RunDir(draft), record.new(run_dir.name, planned.plan.identity))
        draft.chmod(0o777 & ~_umask())
        draft.rename(run_dir.root)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        if run_dir.record.exists():
            return False
        raise
    return True


def update(run_dir: RunDir, planned: Planned) -> None:
    """Write the files that a plan makes. A run that continues follows the newest plan of the same identity."""
    for path, text in texts(planned, run_dir.root).items():
        write_text(path, text)
    if not planned.pins:
        run_dir.hub.unlink(missing_ok=True)


def relocate(plan: Plan, placement: dict[str, Any], sets: tuple[str, ...]) -> dict[str, Any]:
    """A placement with other paths, from `--set KEY=PATH` on an existing run.

    Raises:
        UsageError: a key that is no path of this run, or a path that leads nowhere.
    """
    by_recipe_key = {recipe_key: key for key, recipe_key in recipe_keys(plan).items() if key in placement}
    moved = dict(placement)
    for each in sets:
        recipe_key, separator, value = each.partition("=")
        if not separator or recipe_key not in by_recipe_key:
            raise UsageError(
                f"`--set {each}`: of an existing run, only paths and `{split.ROWS}` can be set; its paths: {', '.join(by_recipe_key) or 'none'}",
                hint="to change anything else, run the recipe: `launcher run RECIPE --set …`",
            )
        moved[by_recipe_key[recipe_key]] = _found(by_recipe_key[recipe_key], value)
    return moved


def _found(key: str, value: str) -> str | list[str]:
    path = Path(value).expanduser().absolute()
    if not key.startswith("data."):
        if not path.is_dir():
            raise UsageError(f"no folder {path}")
        return str(path)
    try:
        return [str(file) for file in data_files.expand(str(path))]
    except data_files.DataPathError as fault:
        raise UsageError(fault.message, hint=fault.hint) from None


def _umask() -> int:
    """The process's umask, which Python can only read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
