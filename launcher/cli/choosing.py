"""Which run the words of a command line mean, for the verbs that start something in it."""

from __future__ import annotations

import contextlib
import itertools
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from launcher.cli import live, output
from launcher.cluster.schema import Cluster
from launcher.errors import Exit, RecipeErrors, UsageError
from launcher.executors import local, packages, pick, prepared
from launcher.executors.pick import Pick
from launcher.runs import names
from launcher.runs.files import read_json


def go(args: Namespace, cluster: Cluster, action: Callable[[Pick], Exit], *, trains: bool = False) -> Exit:
    """Choose the run, say which and why, and do `action` with it; again when another launcher takes it in between."""
    for _ in itertools.count():
        picked = _by_recipe(args, cluster) if _is_recipe(args) else _by_run(args, cluster, trains=trains)
        output.picked(picked)
        with contextlib.suppress(local.Superseded):
            return action(picked)
    raise AssertionError("counting has no end")


def make_data(picked: Pick) -> Exit | None:
    """Make the run's data ready in the foreground; None while another process prepares it for the first time."""
    if picked.action == "finished":
        prepared.refuse_drift(picked.run_dir, prepared.placement(picked.run_dir))
    if picked.action in ("finished", "running"):
        return Exit.DONE if read_json(picked.run_dir.data_facts) else None
    with live.view() as view:
        return local.prepare(picked.run_dir, view, identity=picked.identity)


def _is_recipe(args: Namespace) -> bool:
    """A recipe is a file, or is named like one; everything else is a run."""
    named_so = args.recipe.endswith((".yaml", ".yml"))
    continued = getattr(args, "continue_run", None) is not None
    return continued or named_so or Path(args.recipe.replace("\0", "")).is_file()


def _by_recipe(args: Namespace, cluster: Cluster) -> Pick:
    from launcher.plan.facts import gather
    from launcher.plan.make import make_plan
    from launcher.recipe.load import load_recipe

    runs = Path(args.runs)
    continued, allowed = getattr(args, "continue_run", None), getattr(args, "allow_change", [])
    existing = names.find(runs, continued) if continued else None
    if allowed and existing is None:
        raise UsageError(
            "`--allow-change` needs `--continue RUN`", hint="name the run that goes on by the changed recipe"
        )
    loaded = load_recipe(Path(args.recipe), args.set)
    planned = make_plan(loaded, cluster, gather(loaded, cluster))
    if planned.unresolved:
        raise RecipeErrors(planned.unresolved)
    packages.require()
    if existing:
        return pick.by_continue(existing, planned, allowed=allowed)
    return pick.by_recipe(runs, planned)


def _by_run(args: Namespace, cluster: Cluster, *, trains: bool) -> Pick:
    found = names.find(Path(args.runs), args.recipe)
    packages.require()
    return pick.by_run(found, cluster, args.set, trains=trains)
