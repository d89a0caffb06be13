"""The verbs and their arguments. A verb's module is imported only when it is called."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """One verb: its help line and a function that adds its arguments. Its module is `launcher.cli.NAME`."""

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]


def _recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="recipe file")
    _sets(parser)


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster", default="local", metavar="NAME", help="compare this profile with its site (default: this machine)"
    )
    parser.add_argument(
        "--write", action="store_true", help="write a first profile NAME from what SLURM says about this site"
    )
    parser.add_argument(
        "--script",
        metavar="FILE",
        help="read a batch script of yours for known mistakes (with --cluster: for that site)",
    )
    _runs(parser)
    _json(parser)


def _sets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one key (repeatable); items by label: data.datasets.LABEL.path=…",
    )


def _hardware(parser: argparse.ArgumentParser) -> None:
    _cluster(parser)
    parser.add_argument("--gpus", metavar="LIST", help="use only these GPUs of this machine (0,2); `none` for the CPU")
    _on(parser)


def _cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster",
        default="local",
        metavar="NAME[:QUEUE]",
        help="where to run: `local`, this machine (the default), or a profile (docs/clusters.md)",
    )
    parser.add_argument("--account", metavar="NAME", help="SLURM account to charge (default: the profile's)")


def _on(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--on", metavar="HARDWARE", help="plan for hardware that is not here, for example RTX4090x1")


def _runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs",
        metavar="DIR",
        type=os.path.expanduser,  # `--runs=~/x`: the shell has left the tilde to us
        default=os.environ.get("LAUNCHER_RUNS") or "runs",
        help="folder of the run directories (default: ./runs, or LAUNCHER_RUNS)",
    )


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _validate(parser: argparse.ArgumentParser) -> None:
    _recipe(parser)
    parser.add_argument(
        "--fix",
        action="store_true",
        help="rewrite names of other tools and removed names in place, and print the difference",
    )
    _json(parser)


def _explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "key", metavar="KEY", nargs="?", help="a recipe key, for example peft.r; without it, the sections"
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of recipes, for editors")
    _json(parser)


def _plan(parser: argparse.ArgumentParser) -> None:
    _recipe(parser)
    _hardware(parser)
    _runs(parser)
    parser.add_argument("--full", action="store_true", help="also print the whole resolved recipe")
    parser.add_argument(
        "--trace",
        action="store_true",
        help="count the memory of a step on small copies of the model, beside the formula (seconds; needs torch)",
    )
    parser.add_argument(
        "--advise", action="store_true", help="on which GPUs, how many and with which strategy it would fit"
    )
    parser.add_argument("--html", metavar="FILE", help="write the plan as a page, with drawings of memory and time")
    _json(parser)


def _fetch(parser: argparse.ArgumentParser) -> None:
    _recipe(parser)
    _cluster(parser)
    parser.add_argument(
        "--facts", action="store_true", help="only what `plan` needs: configuration and headers, no weights, no data"
    )
    parser.add_argument(
        "--check", action="store_true", help="compare every file with its hash, and bring damaged ones again"
    )
    parser.add_argument("--update", action="store_true", help="take what branches and tags stand at now, and lock that")
    _json(parser)


def _render(parser: argparse.ArgumentParser) -> None:
    _recipe(parser)
    _hardware(parser)
    parser.add_argument("--out", metavar="DIR", required=True, help="folder to write to")


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe", metavar="RECIPE|RUN", help="recipe file, or the name or directory of a run to continue"
    )
    parser.add_argument("others", metavar="RECIPE", nargs="*", help="further recipes: an array on a SLURM cluster")
    _sets(parser)
    parser.add_argument(
        "--each",
        action="append",
        default=[],
        metavar="KEY=V1,V2",
        help="one run for each value (repeatable: for each combination), as an array on a SLURM cluster",
    )
    parser.add_argument("--throttle", type=int, metavar="N", help="run at most N of an array at a time")
    _hardware(parser)
    parser.set_defaults(cluster=None)  # a run goes on where it was submitted, unless a place is named
    _runs(parser)
    parser.add_argument("--anyway", action="store_true", help="start although the plan is predicted not to fit")
    parser.add_argument("--detach", action="store_true", help="return at once; the run goes on in the background")
    parser.add_argument(
        "--continue", dest="continue_run", metavar="RUN", help="continue RUN although the recipe has changed"
    )
    parser.add_argument(
        "--allow-change",
        action="append",
        default=[],
        metavar="KEY",
        help="a changed key to accept with --continue (repeatable)",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")


def _prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE|RUN", help="recipe file, or the name or directory of a run")
    _sets(parser)
    _on(parser)
    _runs(parser)
    _json(parser)


def _inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE|RUN", help="recipe file, or the name or directory of a run")
    parser.add_argument("--rows", type=int, default=3, metavar="N", help="rows to show of each source (default 3)")
    parser.add_argument("--source", metavar="LABEL", help="show rows of this source only")
    parser.add_argument("--full", action="store_true", help="show long rows from end to end")
    _sets(parser)
    _on(parser)
    _runs(parser)
    parser.add_argument(
        "--html",
        nargs="?",
        const="",
        metavar="FILE",
        help="write a page with rows and plots (default: inspect.html of the run)",
    )
    _json(parser)


def _status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", help="one run; without it, all of them")
    _runs(parser)
    _json(parser)


def _logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN")
    _runs(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="keep printing new lines until the run ends")
    parser.add_argument("--rank", type=int, default=0, metavar="N", help="rank whose log to print (default 0)")
    parser.add_argument("--job", action="store_true", help="print what the batch job itself says (a run on SLURM)")
    parser.add_argument(
        "--stage",
        choices=("prepare", "train", "evaluate", "export"),
        default=None,
        help="log of a stage's outer process instead",
    )


def _stop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN")
    _runs(parser)
    parser.add_argument(
        "--wait", type=float, default=0, metavar="SECONDS", help="wait until the run has saved and left"
    )


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN")
    parser.add_argument(
        "--merge-base",
        choices=("quantized", "original"),
        help="what the adapter is merged into (default: as the run's plan says)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=PATH", help="where the base lies now (repeatable)"
    )
    _runs(parser)


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN")
    _runs(parser)


def _calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "named", metavar="RUN", nargs="*", help="runs to learn from (default: all finished ones on this machine's GPU)"
    )
    _runs(parser)
    parser.add_argument("--show", action="store_true", help="show what is learned about this machine; learns nothing")
    _json(parser)


VERBS: tuple[Verb, ...] = (
    Verb("validate", "check a recipe: every error at once, with file, line and fix", _validate),
    Verb("explain", "say what a recipe key does, its values and its default", _explain),
    Verb("doctor", "look at this machine, compare a cluster profile with its site, or read a batch script", _doctor),
    Verb("plan", "show every decision and its reason; starts nothing", _plan),
    Verb("fetch", "bring model and data from the hub to this machine, pinned to commits", _fetch),
    Verb("prepare", "make the data ready: tokenised, mixed, packed; trains nothing", _prepare),
    Verb("inspect", "read the rows that will be trained, token by token, and their figures", _inspect),
    Verb("render", "write the plan and the exact commands to a folder; starts nothing", _render),
    Verb("run", "start a run, or continue it: the same line after any stop", _run),
    Verb("status", "show runs: state, step, loss, time left", _status),
    Verb("logs", "print a run's log", _logs),
    Verb("stop", "save at the next step and leave", _stop),
    Verb("export", "merge a finished run's adapter into its base: a plain model in RUN/merged", _export),
    Verb("report", "write report.html of a run", _report),
    Verb("calibrate", "teach later plans what finished runs took: memory and speed of this GPU", _calibrate),
)
