"""`launcher run` with several recipes, or with `--each`: many runs at once, as arrays of a SLURM cluster."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from launcher.cli import choosing, screens
from launcher.cli.home import home
from launcher.cli.look import looks
from launcher.cluster.schema import Cluster, Site
from launcher.errors import Exit, UsageError
from launcher.executors import elements, pick
from launcher.executors.pick import Pick
from launcher.executors.slurm import array
from launcher.executors.slurm.array import Array, Wanted
from launcher.plan.codec import loads
from launcher.plan.types import Plan
from launcher.recipe import variants
from launcher.runs import choice, names
from launcher.runs.paths import RunDir
from launcher.text import counted

_SHOWN = 8
"""Elements of an array that are listed one by one."""
_WORDS = {
    "start": "started",
    "update": "brought up to date",
    "continue": "continued",
    "finished": "finished already",
    "running": "queued or running already",
}


def run(args: Namespace, cluster: Cluster) -> Exit:
    """Plan all of them, make their runs, submit those that are neither done nor queued, and say which is which."""
    site = _site(args, cluster)
    recipes = [Path(each) for each in (args.recipe, *args.others)]
    planned = elements.plan(recipes, args.set, variants.product(args.each), cluster)
    for element in planned:
        choosing.refuse_missing(element.planned, site)
    runs = home(args, cluster)
    for element in planned:
        identity = element.planned.plan.identity
        choosing.refuse_unfit(args, element.planned, choice.choose(runs, element.name, identity).run_dir)
    choosing.settle(runs, *(each.name for each in planned))
    picked = [replace(pick.by_recipe(runs, each.planned), loaded=each.loaded) for each in planned]
    _told(picked)
    left = [each for each in picked if each.action not in ("finished", "running")]
    for one in left if site.profile.stages.prepare == "login" else ():
        if (code := choosing.make_data(one)) != Exit.DONE:
            return Exit.DONE if code is None else code
    wanted = [Wanted(each.run_dir, _plan(each.run_dir), each.loaded) for each in left]
    for submitted in array.submit_all(wanted, site, args.throttle):
        print(_submitted(submitted, args.throttle))
    if not wanted:
        print(screens.runs_table(looks([each.run_dir for each in picked])))
        return Exit.DONE
    name = names.typed(wanted[0].run_dir)
    print(f"next    launcher status · launcher logs {name} -f · launcher stop {name} (this one alone)")
    return Exit.DONE


def _site(args: Namespace, cluster: Cluster) -> Site:
    alone = {"--continue": args.continue_run, "--allow-change": args.allow_change, "--detach": args.detach}
    if named := [name for name, value in alone.items() if value]:
        raise UsageError(f"`{named[0]}` is for one run", hint="leave it out: the same line goes on with each of them")
    for each in (args.recipe, *args.others):
        if not choosing.is_recipe(Namespace(recipe=each)):
            raise UsageError(f"several runs are started by recipes, and `{each}` is none", hint="name recipe files")
    if cluster.site is None or cluster.inside:
        raise UsageError(
            "several runs at once are an array of a SLURM cluster",
            hint="name one, `--cluster NAME`; on this machine, run them one after the other",
        )
    if not cluster.site.profile.requeue:
        raise UsageError(
            f"{cluster.site.label} does not let jobs requeue themselves: each run is several jobs there, which no array can be",
            hint="submit the runs one after the other: `launcher run RECIPE --cluster …`",
        )
    if args.throttle is not None and args.throttle < 1:
        raise UsageError(f"`--throttle {args.throttle}`: so many runs at a time", hint="at least 1")
    return cluster.site


def _plan(run_dir: RunDir) -> Plan:
    return loads(run_dir.plan.read_text(encoding="utf-8"))


def _told(picked: Sequence[Pick]) -> None:
    """How many are in which state; who differs from an older run of its name, and so gets another."""
    found = Counter(each.action for each in picked)
    parts = [f"{number:,} {_WORDS[action]}" for action, number in found.items()]
    print(f"{counted(len(picked), 'run')}: {', '.join(parts)}", file=sys.stderr)
    for each in picked:
        if each.differs_from:
            print(f"{each.run_dir.name}: its recipe differs from {each.differs_from.name}", file=sys.stderr)


def _submitted(submitted: Array, throttle: int | None) -> str:
    if submitted.folder is None:
        return "\n".join(
            f"job {job.job_id}  {job.stage} of {submitted.run_dirs[0].name} on {job.where}" for (job,) in submitted.jobs
        )
    lines = []
    for jobs in submitted.jobs:
        number = (jobs[0].job_id or "").partition("_")[0]
        after = ", each after its run's job before" if jobs[0].after else ""
        pace = f", {throttle} at a time" if throttle else ""
        lines.append(f"array {number}  {jobs[0].stage} of {counted(len(jobs), 'run')} on {jobs[0].where}{pace}{after}")
    of_runs = next((jobs for jobs in submitted.jobs if jobs[0].stage == "train"), submitted.jobs[0])
    pairs = list(zip(of_runs, submitted.run_dirs, strict=True))
    lines += [f"  {job.job_id}  {run_dir.name}" for job, run_dir in pairs[:_SHOWN]]
    if len(pairs) > _SHOWN:
        lines.append(f"  … {len(pairs) - _SHOWN:,} more: ls -l {names.short(submitted.folder.links)}")
    return "\n".join(lines)
