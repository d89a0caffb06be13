"""`launcher plan RECIPE`: show every decision, start nothing."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from launcher.cluster.load import load_cluster
from launcher.plan import codec
from launcher.plan.facts import gather
from launcher.plan.make import make_plan
from launcher.recipe.load import load_recipe
from launcher.render.command import run_line
from launcher.render.plan_text import AGAIN, plan_text
from launcher.render.recipe_yaml import recipe_yaml


def run(args: Namespace) -> int:
    """Print the plan for RECIPE: data, batch arithmetic, choices with their reasons, the exact commands."""
    loaded = load_recipe(Path(args.recipe), args.set)
    cluster = load_cluster(args.cluster, gpus=args.gpus, on=args.on)
    plan = make_plan(loaded, cluster, gather(loaded, cluster)).plan
    if args.json:
        sys.stdout.write(codec.dumps(plan))
        return 0
    next_line = run_line(args.recipe, sets=args.set, cluster=args.cluster, gpus=args.gpus)
    note = AGAIN if cluster.here else "on a machine with that hardware"
    sys.stdout.write(plan_text(plan, next_line=next_line, note=note))
    if args.full:
        sys.stdout.write("\n" + recipe_yaml(plan))
    return 0
