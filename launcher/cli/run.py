"""`launcher run RECIPE|RUN`: start a run, or continue it."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from launcher.cli import choosing, live, screens
from launcher.cli.look import look
from launcher.cluster import codec
from launcher.cluster import site as sites
from launcher.cluster.load import load_cluster
from launcher.cluster.profiles import LOCAL
from launcher.cluster.schema import Cluster, Site
from launcher.errors import Exit, UsageError
from launcher.executors import detach, local, pick
from launcher.executors.pick import Pick
from launcher.runs import names, submissions
from launcher.runs.files import read_json
from launcher.runs.paths import RunDir
from launcher.runs.submissions import Submission


def run(args: Namespace) -> int:
    """Choose the run, say which and why, then train in the foreground (or, with `--detach`, in the background)."""
    if args.on:
        raise UsageError("`--on` names hardware that is not here", hint="plan for it: `launcher plan RECIPE --on …`")
    cluster = load_cluster(args.cluster or LOCAL, gpus=args.gpus, account=args.account)
    if args.others or args.each:
        from launcher.cli import arrays

        return arrays.run(args, cluster)
    if args.throttle is not None:
        raise UsageError("`--throttle` is for several runs", hint="name several recipes, or use `--each KEY=V1,V2`")
    cluster = _site_of_run(args, cluster)
    return choosing.go(args, cluster, lambda picked: _go(picked, cluster, detached=args.detach), trains=True)


def _site_of_run(args: Namespace, cluster: Cluster) -> Cluster:
    """A run that was submitted to a site goes on there, by what its profile says now, unless another place is named."""
    if cluster.site or args.cluster or args.gpus or choosing.is_recipe(args):
        return cluster
    noted = read_json(names.find(Path(args.runs), args.recipe).site)
    if not noted:
        return cluster
    site = codec.site_of(noted)
    own = site.queue.account or site.profile.account
    try:
        return sites.load(site.label, site.account if site.account != own else None)
    except UsageError:  # there is no such profile any more, or not here
        return sites.cluster_of(site)


def _go(picked: Pick, cluster: Cluster, *, detached: bool) -> Exit:
    if picked.action == "running" and cluster.site and not cluster.inside:
        _complete(picked.run_dir)
    if picked.action in ("finished", "running"):
        print(screens.run_screen(look(picked.run_dir)))
        if submissions.alive(picked.run_dir):
            name = names.typed(picked.run_dir)
            print(
                f"changes of recipe or profile count after `launcher stop {name}` and this line again", file=sys.stderr
            )
        return Exit.DONE
    if cluster.site and not cluster.inside:
        return _submit(picked, cluster.site)
    if cluster.site and not detached:
        return _foreground(picked, cluster.site)
    if lines := pick.commands_per_node(picked.run_dir):
        print("\n".join(lines))
        return Exit.DONE
    return _detached(picked.run_dir) if detached else _foreground(picked)


def _submit(picked: Pick, site: Site) -> Exit:
    from launcher.executors.slurm import submit
    from launcher.plan.codec import loads

    run_dir = picked.run_dir
    if site.profile.stages.prepare == "login" and (code := choosing.make_data(picked)) != Exit.DONE:
        return Exit.DONE if code is None else code
    for job in submit.chain(run_dir, loads(run_dir.plan.read_text(encoding="utf-8")), site, picked.loaded):
        print(_told(job))
    print("next    " + " · ".join(screens.next_commands(look(run_dir))))
    return Exit.DONE


def _complete(run_dir: RunDir) -> None:
    """The other half of a chain whose launcher was killed while it submitted it."""
    from launcher.executors.slurm import submit

    for job in submit.complete(run_dir):
        print(_told(job))


def _told(job: Submission) -> str:
    after = f", after {', '.join(job.after)}" if job.after else ""
    return f"job {job.job_id}  {job.stage} on {job.where}{after}"


def _foreground(picked: Pick, allocation: Site | None = None) -> Exit:
    with live.view() as view:
        if allocation:
            from launcher.executors.slurm import inside

            code = inside.run(picked.run_dir, allocation, view)
        else:
            code = local.run(picked.run_dir, view, identity=picked.identity)
    seen = look(picked.run_dir)
    if code is None:
        print(screens.run_screen(seen))
        return Exit.DONE
    print(screens.final(seen))
    return code


def _detached(run_dir: RunDir) -> Exit:
    code, said = detach.start(run_dir)
    if code is not None:
        sys.stderr.write(said)
        return Exit(code)
    print(f"{run_dir.name} runs in the background; its log is {names.short(run_dir.launcher_log)}")
    print("next    " + " · ".join(screens.next_commands(look(run_dir))))
    return Exit.DONE
