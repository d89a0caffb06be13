"""`launcher prepare RECIPE|RUN`: make the data ready, train nothing."""

from __future__ import annotations

import json
import sys
from argparse import Namespace

from launcher.cli import choosing, screens
from launcher.cli.look import look
from launcher.cluster.load import load_cluster
from launcher.errors import Exit
from launcher.executors.pick import Pick
from launcher.render import data_text
from launcher.runs.files import read_json


def run(args: Namespace) -> int:
    """Make or update the run directory as `run` would, prepare its data in the foreground, and show what came out."""
    return choosing.go(args, load_cluster("local", on=args.on), lambda picked: _go(picked, args))


def _go(picked: Pick, args: Namespace) -> Exit:
    run_dir = picked.run_dir
    before = read_json(run_dir.data_facts)
    code = choosing.make_data(picked)
    if code is None or code != Exit.DONE:
        print(screens.run_screen(look(run_dir)))
        return code or Exit.DONE
    facts = read_json(run_dir.data_facts) or {}
    changed = facts != before
    if args.json:
        print(json.dumps({"run": str(run_dir.root), "changed": changed, "data": facts}, indent=1, ensure_ascii=False))
        return code
    if not changed:
        print("data is ready; nothing changed", file=sys.stderr)
    more = [("MADE", [data_text.work_line(facts)])] if changed else []
    print(data_text.screen(facts, more=more, following=[_following(picked, args)]))
    return code


def _following(picked: Pick, args: Namespace) -> str:
    read = f"{screens.typed('inspect', args, picked.run_dir)} (read some rows)"
    return f"{read} · {screens.trains(picked.action, args, picked.run_dir)}"
