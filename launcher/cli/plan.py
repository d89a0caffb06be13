"""`launcher plan RECIPE`: show every decision, start nothing."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.cli import output
from launcher.cli.home import home
from launcher.cluster.load import load_cluster
from launcher.cluster.profiles import LOCAL
from launcher.errors import EnvironmentFault, Exit, UsageError
from launcher.executors.prepared import found
from launcher.plan import codec, fit
from launcher.plan.facts import gather
from launcher.plan.make import make_plan, places
from launcher.plan.types import Plan
from launcher.recipe.load import LoadedRecipe, load_recipe
from launcher.render.command import render_line, run_line
from launcher.render.plan_text import AGAIN, plan_text
from launcher.render.recipe_yaml import recipe_yaml
from launcher.runs import names
from launcher.runs.files import write_text

if TYPE_CHECKING:
    from launcher.cli.counted import Counted


def run(args: Namespace) -> int:
    """Print the plan for RECIPE: data (counted, where it is prepared), batch, choices with their reasons, the exact commands."""
    _refuse_pairs(args)
    loaded = load_recipe(Path(args.recipe), args.set)
    if args.advise:
        return _advise(args, loaded)
    cluster = load_cluster(args.cluster, gpus=args.gpus, on=args.on, account=args.account)
    facts = gather(loaded, cluster)
    plan, prepared = make_plan(loaded, cluster, facts).plan, None
    if data_json := found(home(args, cluster), plan):
        facts = gather(loaded, cluster, data_json=data_json)
        plan, prepared = make_plan(loaded, cluster, facts).plan, facts.prepared
    code = Exit.DOES_NOT_FIT if fit.refusal(plan) else Exit.DONE
    traced = _traced(plan, facts.model.config) if args.trace else None
    if args.json:
        sys.stdout.write(traced.json() if traced else codec.dumps(plan))
        return code
    runs = None if Path(args.runs) == names.default_root() else args.runs
    next_line = run_line(
        args.recipe, sets=args.set, cluster=args.cluster, account=args.account, gpus=args.gpus, runs=runs
    )
    if args.html is not None:
        _page(args, plan, prepared, next_line)
        return code
    note = AGAIN if cluster.here else "on a machine with that hardware"
    site = None if cluster.inside else cluster.site
    text = plan_text(
        plan, next_line=next_line, note=note, prepared=prepared, site=site, on=args.on, width=output.width()
    )
    sys.stdout.write(output.coloured(text))
    if traced:
        sys.stdout.write(traced.text())
    if site:
        print(f"SCRIPT    {render_line(next_line)}     read, edit, `sbatch` it yourself")
    if args.full:
        sys.stdout.write("\n" + recipe_yaml(plan))
    return code


def _refuse_pairs(args: Namespace) -> None:
    """Of two answers that exclude one another, none is left out in silence."""
    asked = {"--advise": args.advise, "--html": args.html is not None, "--json": args.json, "--trace": args.trace}
    for one, other in (("--html", "--json"), ("--html", "--advise"), ("--html", "--trace"), ("--advise", "--trace")):
        if asked[one] and asked[other]:
            raise UsageError(f"{one} and {other} exclude one another", hint="run the command once for each")


def _advise(args: Namespace, loaded: LoadedRecipe) -> int:
    """Where in the catalogue of GPUs the recipe fits, whatever this machine has."""
    import json

    from launcher.render.advice_text import advice_json, advice_text

    if args.on or args.gpus or args.cluster != LOCAL:
        hint = "leave `--on`, `--gpus` and `--cluster` out, or leave `--advise` out"
        raise UsageError("--advise looks at every GPU of the catalogue", hint=hint)
    advice = places(loaded, gather(loaded, load_cluster(LOCAL, gpus="none")))
    line = run_line(args.recipe, sets=args.set, cluster=LOCAL, gpus=None)
    told = (
        json.dumps(advice_json(advice), indent=2) + "\n" if args.json else advice_text(advice, loaded.recipe.name, line)
    )
    sys.stdout.write(told)
    return Exit.DONE if advice.fitting else Exit.DOES_NOT_FIT


def _traced(plan: Plan, config: dict[str, Any]) -> Counted:
    """The plan's memory, counted by a worker."""
    from launcher.cli.counted import counted

    return counted(plan, config)


def _page(args: Namespace, plan: Plan, prepared: dict[str, Any] | None, next_line: str) -> None:
    """Write the page, and print where it is."""
    from launcher.render.plan_page import html

    file = Path(args.html)
    if file.is_dir():
        raise UsageError(f"{file} is a folder", hint=f"name a file: `--html {file / 'plan.html'}`")
    try:
        write_text(file, html(plan, next_line=next_line, on=args.on, prepared=prepared))
    except OSError as fault:
        raise EnvironmentFault(f"{file} cannot be written: {fault.strerror}") from None
    print(names.short(file))
