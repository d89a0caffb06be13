"""`launcher render RECIPE --out DIR`: write the plan and its commands to a folder, start nothing."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from launcher.cluster.load import load_cluster
from launcher.plan.facts import gather
from launcher.plan.make import make_plan
from launcher.recipe.load import load_recipe
from launcher.render.files import write
from launcher.runs.paths import RunDir


def run(args: Namespace) -> int:
    """Write plan.json, plan.md, commands.sh, placement.json, recipe.yaml, accelerate.yaml, for ZeRO deepspeed.json and for a SLURM site its scripts to DIR, and print their paths."""
    loaded = load_recipe(Path(args.recipe), args.set)
    cluster = load_cluster(args.cluster, gpus=args.gpus, on=args.on, account=args.account)
    planned, folder = make_plan(loaded, cluster, gather(loaded, cluster)), Path(args.out).absolute()
    for path in write(planned, folder):
        print(path)
    if cluster.site and not cluster.inside:
        from launcher.executors.slurm import submit

        for path in submit.write_scripts(RunDir(folder), planned.plan, cluster.site):
            print(path)
    return 0
