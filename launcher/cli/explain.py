"""`launcher explain KEY`: what a recipe key does."""

from __future__ import annotations

import json
from argparse import Namespace

from launcher.recipe.explain import explain, overview


def run(args: Namespace) -> int:
    """Print one key, the sections, or with `--schema` the JSON Schema of recipes."""
    if args.schema:
        from launcher.recipe.json_schema import schema

        print(json.dumps(schema(), indent=1, ensure_ascii=False))
    elif args.key is None:
        print(overview())
    else:
        found = explain(args.key)
        print(json.dumps(found.as_dict(), indent=1, ensure_ascii=False) if args.json else found.lines())
    return 0
