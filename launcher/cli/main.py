"""The command line: one table of verbs; a verb's module is imported only when it is called."""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.cli.verbs import VERBS
from launcher.errors import EnvironmentFault, Exit, LauncherError


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
