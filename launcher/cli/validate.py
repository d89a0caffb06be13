"""`launcher validate RECIPE`: every error at once; `--fix` rewrites other tools' names."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from launcher.errors import Exit, RecipeError, RecipeErrors
from launcher.recipe.load import problems


def run(args: Namespace) -> int:
    """Check RECIPE as every other verb does, without looking at hardware, model or data."""
    path = Path(args.recipe)
    if args.fix:
        _fix(path)
    found = problems(path, args.set)
    if args.json:
        print(json.dumps({"valid": not found, "errors": [_as_dict(each) for each in found]}, indent=1))
        return Exit.USAGE if found else Exit.DONE
    if found:
        raise RecipeErrors(found)
    print(f"{path}: valid")
    return Exit.DONE


def _fix(path: Path) -> None:
    from launcher.recipe.fix import fix

    fixed = fix(path)
    fixed.write()
    sys.stderr.write(fixed.difference())
    for line in fixed.left:
        print(f"left:  {line}", file=sys.stderr)
    print(f"{len(fixed.done)} rewritten, {len(fixed.left)} left", file=sys.stderr)


def _as_dict(error: RecipeError) -> dict[str, Any]:
    place = error.place
    where = {"file": place.source, "line": place.line, "column": place.column} if place else {}
    return {**where, "key": error.key, "message": error.message, "hint": error.hint}
