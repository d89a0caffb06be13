"""How answers and errors look. Standard output carries the answer, standard error everything else."""

from __future__ import annotations

import sys

from launcher.errors import LauncherError, RecipeErrors


def error(fault: LauncherError) -> None:
    """Print an error: one `error:` line each, its `hint:` line below."""
    for each in fault.errors if isinstance(fault, RecipeErrors) else (fault,):
        print(f"error: {each}", file=sys.stderr)
        if each.hint:
            print(f"hint:  {each.hint}", file=sys.stderr)
