"""The command line: one table of verbs; a verb's module is imported only when it is called."""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import EnvironmentFault, Exit, LauncherError


@dataclass(frozen=True)
class Verb:
    """One verb: its help line and a function that adds its arguments. Its module is `launcher.cli.NAME`."""

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]


def _recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="recipe file")
    _sets(parser)


def _sets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one key (repeatable); items by label: data.datasets.LABEL.path=…",
    )


def _hardware(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster", default="local", metavar="NAME", help="where to run (default: local, this machine)"
    )
    parser.add_argument("--gpus", metavar="LIST", help="use only these GPUs of this machine (0,2); `none` for the CPU")
    _on(parser)


def _on(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--on", metavar="HARDWARE", help="plan for hardware that is not here, for example RTX4090x1")


def _runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs",
        metavar="DIR",
        default=os.environ.get("LAUNCHER_RUNS", "runs"),
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
    _json(parser)


def _render(parser: argparse.ArgumentParser) -> None:
    _recipe(parser)
    _hardware(parser)
    parser.add_argument("--out", metavar="DIR", required=True, help="folder to write to")


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe", metavar="RECIPE|RUN", help="recipe file, or the name or directory of a run to continue"
    )
    _sets(parser)
    _hardware(parser)
    _runs(parser)
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
    parser.add_argument(
        "--stage", choices=("prepare", "train", "export"), default=None, help="log of a stage's outer process instead"
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


VERBS: tuple[Verb, ...] = (
    Verb("validate", "check a recipe: every error at once, with file, line and fix", _validate),
    Verb("explain", "say what a recipe key does, its values and its default", _explain),
    Verb("plan", "show every decision and its reason; starts nothing", _plan),
    Verb("prepare", "make the data ready: tokenised, mixed, packed; trains nothing", _prepare),
    Verb("inspect", "read the rows that will be trained, token by token, and their figures", _inspect),
    Verb("render", "write the plan and the exact commands to a folder; starts nothing", _render),
    Verb("run", "start a run, or continue it: the same line after any stop", _run),
    Verb("status", "show runs: state, step, loss, time left", _status),
    Verb("logs", "print a run's log", _logs),
    Verb("stop", "save at the next step and leave", _stop),
    Verb("export", "merge a finished run's adapter into its base: a plain model in RUN/merged", _export),
    Verb("report", "write report.html of a run", _report),
)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="launcher", description="Fine-tune large models from one YAML file.")
    top.add_argument("--version", action="store_true", help="print the version")
    top.add_argument("--traceback", action="store_true", help=argparse.SUPPRESS)
    verbs = top.add_subparsers(dest="verb", metavar="VERB")
    for verb in VERBS:
        sub = verbs.add_parser(
            verb.name, help=verb.help, description=verb.help[0].upper() + verb.help[1:] + ".", allow_abbrev=False
        )
        verb.arguments(sub)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code. The only place that turns an error into text."""
    _speak()
    top = parser()
    args = top.parse_args(argv)
    if args.version:
        from launcher.version import VERSION

        print(VERSION)
        return Exit.DONE
    if args.verb is None:
        top.print_help()
        return Exit.DONE
    return _answer(args)


def _speak() -> None:
    """Make the outputs usable: none may be there (`>&-`), or one that cannot say every character (`LC_ALL=C`)."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - used until the process ends
        elif isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
            stream.reconfigure(errors="replace")


def _answer(args: argparse.Namespace) -> int:
    try:
        return int(_verb(args.verb).run(args))
    except BrokenPipeError:
        # The reader (`| head`) has gone: nothing is left to say, and Python's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except KeyboardInterrupt:
        return Exit.LEFT_AT_ONCE
    except (LauncherError, OSError) as error:
        return _failed(error, args)


def _verb(name: str) -> Any:
    """The verb's module. Loading frees next to nothing: looking for garbage would be a tenth of the start-up time."""
    gc.disable()
    try:
        return importlib.import_module(f"launcher.cli.{name}")
    finally:
        gc.enable()


def _failed(error: LauncherError | OSError, args: argparse.Namespace) -> int:
    """Print the error; what the system refuses (a full disk, a forbidden folder) is this machine's fault."""
    from launcher.cli import output

    if isinstance(error, LauncherError):
        fault = error
    else:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = (
            f"free space in the folder of the runs ({getattr(args, 'runs', '.')}), then type the same again"
            if full
            else None
        )
        fault = EnvironmentFault(": ".join(filter(None, [error.strerror or str(error), error.filename])), hint=hint)
    output.error(fault)
    if args.traceback or getattr(args, "debug", False):
        import traceback

        traceback.print_exception(error)
    return fault.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
