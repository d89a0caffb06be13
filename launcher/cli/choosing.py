"""Which run the words of a command line mean, for the verbs that start something in it."""

from __future__ import annotations

import contextlib
import itertools
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from launcher.cli import live, output
from launcher.cli.home import home
from launcher.cluster.schema import Cluster, Site
from launcher.errors import EnvironmentFault, Exit, LauncherError, RecipeErrors, UsageError
from launcher.executors import local, packages, pick, prepared
from launcher.executors.pick import Pick
from launcher.plan.make import Planned
from launcher.runs import choice, lock, names, state, submissions
from launcher.runs.files import read_json
from launcher.runs.paths import RunDir


def go(args: Namespace, cluster: Cluster, action: Callable[[Pick], Exit], *, trains: bool = False) -> Exit:
    """Choose the run, say which and why, and do `action` with it; again when another launcher takes it in between."""
    for _ in itertools.count():
        picked = _by_recipe(args, cluster, trains=trains) if is_recipe(args) else _by_run(args, cluster, trains=trains)
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


def is_recipe(args: Namespace) -> bool:
    """A recipe is a file, or is named like one; everything else is a run."""
    named_so = args.recipe.endswith((".yaml", ".yml"))
    continued = getattr(args, "continue_run", None) is not None
    return continued or named_so or Path(args.recipe.replace("\0", "")).is_file()


def _by_recipe(args: Namespace, cluster: Cluster, *, trains: bool) -> Pick:
    from launcher.plan.facts import gather
    from launcher.plan.make import make_plan
    from launcher.recipe.load import load_recipe

    runs = home(args, cluster)
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
    here = cluster.site is None or cluster.inside
    if here:
        packages.require()
    elif cluster.site:
        refuse_missing(planned, cluster.site)
    with contextlib.suppress(*((LauncherError,) if here else ())):  # SLURM need not answer to what runs here
        settle(runs, planned.plan.name)
        if existing:
            settle(existing.root.parent, existing.name)
    if existing and submissions.alive(existing):  # its job would run by another plan than it was submitted for
        return Pick("running", existing)
    if trains:
        refuse_unfit(args, planned, existing or choice.choose(runs, planned.plan.name, planned.plan.identity).run_dir)
    if existing:
        return replace(pick.by_continue(existing, planned, allowed=allowed), loaded=loaded)
    return replace(pick.by_recipe(runs, planned), loaded=loaded)


def _by_run(args: Namespace, cluster: Cluster, *, trains: bool) -> Pick:
    found = names.find(Path(args.runs), args.recipe)
    if cluster.site is None or cluster.inside:
        packages.require()
    else:
        settle(found.root.parent, found.name)
        if submissions.alive(found):
            return Pick("running", found)
    return pick.by_run(found, cluster, args.set, trains=trains)


def refuse_unfit(args: Namespace, planned: Planned, run_dir: RunDir) -> None:
    """What is predicted not to fit is not started; a run that has trained on this hardware, or is at it, has shown that it does.

    Raises:
        FitError: with the changes that make it fit.
    """
    from launcher.plan import fit

    plan, fault = planned.plan, fit.refusal(planned.plan)
    if fault is None or args.anyway or lock.held(run_dir) or submissions.alive(run_dir):
        return
    before = read_json(run_dir.plan) or {}
    if not (before.get("hardware") == plan.hardware and state.trained(run_dir)):
        raise fault


def settle(runs: Path, *named: str) -> None:
    """Ask SLURM, once, which jobs of the runs of these names have ended: what is queued must not be taken for free."""
    from launcher.executors.slurm import tracker

    series = (itertools.takewhile(lambda each: each.record.exists(), names.series(runs, name)) for name in named)
    tracker.settle(*itertools.chain.from_iterable(series))


def refuse_missing(planned: Planned, site: Site) -> None:
    """What a job on this site would not find, said before it waits in a queue."""
    from launcher.executors import fetch

    if lacking := fetch.missing(planned, site):
        listed = [f"       {each}" for each in lacking[:10]]
        more = [f"       and {len(lacking) - 10} more"] if len(lacking) > 10 else []
        raise EnvironmentFault(
            "\n".join([f"jobs on `{site.label}` would not find:", *listed, *more]),
            hint=f"`launcher fetch RECIPE --cluster {site.name}` brings it to the shared cache",
        )
