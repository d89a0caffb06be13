"""`launcher run RECIPE|RUN`: start a run, or continue it."""

from __future__ import annotations

import sys
from argparse import Namespace

from launcher.cli import choosing, live, screens
from launcher.cluster.load import load_cluster
from launcher.errors import Exit, UsageError
from launcher.executors import detach, local, pick
from launcher.executors.pick import Pick
from launcher.runs import names
from launcher.runs.paths import RunDir


def run(args: Namespace) -> int:
    """Choose the run, say which and why, then train in the foreground (or, with `--detach`, in the background)."""
    if args.on:
        raise UsageError("`--on` names hardware that is not here", hint="plan for it: `launcher plan RECIPE --on …`")
    cluster = load_cluster(args.cluster, gpus=args.gpus)
    return choosing.go(args, cluster, lambda picked: _go(picked, detached=args.detach), trains=True)


def _go(picked: Pick, *, detached: bool) -> Exit:
    if picked.action in ("finished", "running"):
        print(screens.run_screen(screens.look(picked.run_dir)))
        return Exit.DONE
    if lines := pick.commands_per_node(picked.run_dir):
        print("\n".join(lines))
        return Exit.DONE
    return _detached(picked.run_dir) if detached else _foreground(picked)


def _foreground(picked: Pick) -> Exit:
    with live.view() as view:
        code = local.run(picked.run_dir, view, identity=picked.identity)
    seen = screens.look(picked.run_dir)
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
    print("next    " + " · ".join(screens.next_commands(screens.look(run_dir))))
    return Exit.DONE
