"""How answers and errors look. Standard output carries the answer, standard error everything else."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from launcher.errors import LauncherError, RecipeErrors, SubmissionErrors
from launcher.text import visible

if TYPE_CHECKING:
    from launcher.executors.pick import Pick

_OF_THE_SCHEDULE = (
    "data",
    "training.global_batch_size",
    "training.learning_rate",
    "training.lr_scheduler",
    "training.max_steps",
    "training.num_train_epochs",
    "training.warmup",
)
"""Keys that decide the rate of a step, most of them through the number of steps."""


_COLOURS = {"FITS ": "1;32", "TIGHT ": "1;33", "DOES NOT FIT ": "1;31", "WARN ": "33"}
"""How a line begins → the terminal's code for the colour of that beginning."""


def width() -> int | None:
    """Columns of the terminal; None where the output goes to a file or a program, which break no lines."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def coloured(text: str) -> str:
    """A plan with its verdict and its warnings in colour on a terminal; anywhere else, and with NO_COLOR, as it is."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return "\n".join(_marked(line) for line in text.split("\n"))


def _marked(line: str) -> str:
    for start, colour in _COLOURS.items():
        if line.startswith(start):
            return f"\x1b[{colour}m{start}\x1b[0m{line[len(start) :]}"
    return line


def error(fault: LauncherError) -> None:
    """Print an error: one `error:` line each, its `hint:` line below."""
    for each in fault.errors if isinstance(fault, RecipeErrors | SubmissionErrors) else (fault,):
        print(visible(f"error: {each}"), file=sys.stderr)
        if each.hint:
            print(visible(f"hint:  {each.hint}"), file=sys.stderr)


def picked(pick: Pick) -> None:
    """Say which run it is and why, before anything starts."""
    from launcher.runs import names
    from launcher.runs.changes import describe

    where = names.short(pick.run_dir.root)
    lines = {
        "start": f"starting {where}",
        "update": f"updating {where}: nothing was trained in it yet",
        "continue": f"continuing {where}",
        "finished": f"{where} is finished; nothing to do",
        "running": f"{where} is running already, or queued",
    }
    if pick.differs_from:
        print(f"the recipe differs from {pick.differs_from.name}:", file=sys.stderr)
    elif pick.differences and pick.action == "continue":
        print("allowed changes:", file=sys.stderr)
    told = [f"  {describe(change)}" for change in pick.differences]
    if pick.action == "continue" and any(key.startswith(_OF_THE_SCHEDULE) for key, _, _ in pick.differences):
        told.append("  the learning rate goes on as if this had been its schedule from the start")
    said = [lines[pick.action], *told] if pick.action == "update" else [*told, lines[pick.action]]
    print("\n".join(said), file=sys.stderr)
