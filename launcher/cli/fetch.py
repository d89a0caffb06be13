"""`launcher fetch RECIPE`: bring model and data of the hub to this machine, pinned."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

from launcher import text
from launcher.cluster.load import load_cluster
from launcher.errors import Exit
from launcher.executors import fetch
from launcher.executors.fetch import Fetched
from launcher.plan import lock_file
from launcher.recipe.load import LoadedRecipe, load_recipe
from launcher.runs import names


def run(args: Namespace) -> int:
    """Fetch, write the lock file, and show what is where at which commit."""
    loaded = load_recipe(Path(args.recipe), args.set)
    cluster = load_cluster(args.cluster)
    fetched = fetch.fetch(loaded, cluster, facts=args.facts, check=args.check, update=args.update)
    cache = lock_file.cache_of(cluster)
    if args.json:
        sys.stdout.write(json.dumps(_as_json(fetched, cache), indent=1, ensure_ascii=False) + "\n")
        return Exit.DONE
    if not fetched.pins:
        print("the recipe takes nothing from the hub: there is nothing to fetch")
        return Exit.DONE
    print(_table(loaded, fetched))
    print(f"cache   {cache}, {_came(fetched, check=args.check)}")
    print(f"lock    {names.short(fetched.lock)}{' (written)' if fetched.written else ''}")
    if args.facts:
        print(f"next    launcher plan {args.recipe} · without --facts the files come too")
    return Exit.DONE


def _table(loaded: LoadedRecipe, fetched: Fetched) -> str:
    rows = [["WHAT", "REPOSITORY", "REVISION", "COMMIT", "FILES", "SIZE"]]
    for key, pin in fetched.pins.items():
        rows.append([key, pin.repo, pin.revision, pin.commit[:12], str(len(pin.files)), text.gib(pin.size)])
    if "model" not in fetched.pins:
        rows.append(["model", "built from `from_config`" if loaded.recipe.model.from_config else "on this machine"])
    return text.table(rows, right=frozenset({4, 5}))


def _came(fetched: Fetched, *, check: bool) -> str:
    read = "every file compared with its hash" if check else "all files here"
    return f"{text.gib(fetched.downloaded)} downloaded" if fetched.downloaded else f"{read}, nothing downloaded"


def _as_json(fetched: Fetched, cache: Path) -> dict[str, object]:
    return {
        "cache": str(cache),
        "lock": str(fetched.lock),
        "downloaded": fetched.downloaded,
        "pins": {key: {**asdict(pin), "folder": str(pin.folder(cache))} for key, pin in fetched.pins.items()},
    }
