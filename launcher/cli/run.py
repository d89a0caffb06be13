"""`launcher run RECIPE|RUN`: start a run, or continue it."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from launcher.cli import live, output, screens
from launcher.cluster.load import load_cluster
from launcher.cluster.schema import Cluster
from launcher.errors import Exit, RecipeErrors, UsageError
from launcher.executors import detach, local, packages, pick
from launcher.executors.pick import Pick
from launcher.runs import names
from launcher.runs.paths import RunDir


def run(args: Namespace) -> int:
    """Choose the run, say which and why, then train in the foreground (or, with `--detach`, in the background)."""
    if args.on:
        raise UsageError("`--on` names hardware that is not here", hint="plan for it: `launcher plan RECIPE --on …`")
    cluster = load_cluster(args.cluster, gpus=args.gpus)
    picked = _by_recipe(args, cluster) if _is_recipe(args) else _by_run(args, cluster)
    output.picked(picked)
    if picked.action in ("finished", "running"):
        print(screens.run_screen(screens.look(picked.run_dir)))
        return Exit.DONE
    if lines := pick.commands_per_node(picked.run_dir):
        print("\n".join(lines))
        return Exit.DONE
    return _detached(picked.run_dir) if args.detach else _foreground(picked.run_dir)


def _foreground(run_dir: RunDir) -> int:
    with live.view() as view:
        code = local.run(run_dir, view)
    seen = screens.look(run_dir)
    if code is None:
        print(screens.run_screen(seen))
        return Exit.DONE
    print(screens.final(seen))
    return code


def _detached(run_dir: RunDir) -> int:
    code, said = detach.start(run_dir)
    if code is not None:
        sys.stderr.write(said)
        return code
    print(f"{run_dir.name} runs in the background; its log is {names.short(run_dir.launcher_log)}")
    print("next    " + " · ".join(screens.next_commands(screens.look(run_dir))))
    return Exit.DONE


def _is_recipe(args: Namespace) -> bool:
    """A recipe is a file, or is named like one; everything else is a run."""
    named_so = args.recipe.endswith((".yaml", ".yml"))
    return args.continue_run is not None or named_so or Path(args.recipe.replace("\0", "")).is_file()


def _by_recipe(args: Namespace, cluster: Cluster) -> Pick:
    from launcher.plan.facts import gather
    from launcher.plan.make import make_plan
    from launcher.recipe.load import load_recipe

    runs = Path(args.runs)
    existing = names.find(runs, args.continue_run) if args.continue_run else None
    if args.allow_change and existing is None:
        raise UsageError(
            "`--allow-change` needs `--continue RUN`", hint="name the run that goes on by the changed recipe"
        )
    loaded = load_recipe(Path(args.recipe), args.set)
    planned = make_plan(loaded, cluster, gather(loaded, cluster))
    if planned.unresolved:
        raise RecipeErrors(planned.unresolved)
    packages.require()
    if existing:
        return pick.by_continue(existing, planned, allowed=args.allow_change)
    return pick.by_recipe(runs, planned)


def _by_run(args: Namespace, cluster: Cluster) -> Pick:
    found = names.find(Path(args.runs), args.recipe)
    packages.require()
    return pick.by_run(found, cluster, args.set)
