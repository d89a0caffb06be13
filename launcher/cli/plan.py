"""`launcher plan RECIPE`: show every decision, start nothing."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from launcher.cli.home import home
from launcher.cluster.load import load_cluster
from launcher.executors.prepared import found
from launcher.plan import codec
from launcher.plan.facts import gather
from launcher.plan.make import make_plan
from launcher.recipe.load import load_recipe
from launcher.render.command import render_line, run_line
from launcher.render.plan_text import AGAIN, plan_text
from launcher.render.recipe_yaml import recipe_yaml
from launcher.runs import names


def run(args: Namespace) -> int:
    """Print the plan for RECIPE: data (counted, where it is prepared), batch, choices with their reasons, the exact commands."""
    loaded = load_recipe(Path(args.recipe), args.set)
    cluster = load_cluster(args.cluster, gpus=args.gpus, on=args.on, account=args.account)
    plan, prepared = make_plan(loaded, cluster, gather(loaded, cluster)).plan, None
    if data_json := found(home(args, cluster), plan):
        facts = gather(loaded, cluster, data_json=data_json)
        plan, prepared = make_plan(loaded, cluster, facts).plan, facts.prepared
    if args.json:
        sys.stdout.write(codec.dumps(plan))
        return 0
    runs = None if Path(args.runs) == names.default_root() else args.runs
    next_line = run_line(
        args.recipe, sets=args.set, cluster=args.cluster, account=args.account, gpus=args.gpus, runs=runs
    )
    note = AGAIN if cluster.here else "on a machine with that hardware"
    site = None if cluster.inside else cluster.site
    sys.stdout.write(plan_text(plan, next_line=next_line, note=note, prepared=prepared, site=site))
    if site:
        print(f"SCRIPT    {render_line(next_line)}     read, edit, `sbatch` it yourself")
    if args.full:
        sys.stdout.write("\n" + recipe_yaml(plan))
    return 0
