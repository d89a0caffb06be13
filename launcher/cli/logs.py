"""`launcher logs RUN`: the log of one rank or stage, of the latest attempt that wrote one."""

import sys
import time
from argparse import Namespace
from pathlib import Path

from launcher.errors import EnvironmentFault, Exit
from launcher.runs import attempts, lock, names
from launcher.runs.paths import RunDir

_POLL_S = 0.2
_BLOCK_BYTES = 2**20


def run(args: Namespace) -> int:
    """Print the log; with `--follow`, go on until the run ends."""
    run_dir = names.find(Path(args.runs), args.run)
    path = _first(run_dir, args)
    offset = _print_from(path, 0)
    while args.follow and lock.held(run_dir):
        time.sleep(_POLL_S)
        newest = _newest(run_dir, args)
        offset, path = (offset, path) if newest == path else (0, newest)
        offset = _print_from(path, offset)
    _print_from(path, offset)
    return Exit.DONE


def _first(run_dir: RunDir, args: Namespace) -> Path:
    """The log to begin with; a run that has just started may not have one yet, and a follower waits for it."""
    while args.follow and lock.held(run_dir):
        try:
            return _newest(run_dir, args)
        except EnvironmentFault:
            time.sleep(_POLL_S)
    return _newest(run_dir, args)


def _newest(run_dir: RunDir, args: Namespace) -> Path:
    """The log that was asked for; while no rank has begun to write, that of the stage before it."""
    for number in reversed(attempts.numbers(run_dir)):
        asked = run_dir.stage_log(number, args.stage) if args.stage else run_dir.rank_log(number, args.rank)
        before = (
            []
            if args.stage or args.rank
            else [run_dir.stage_log(number, "train"), run_dir.stage_log(number, "prepare")]
        )
        for path in (asked, *before):
            if path.exists() and (path == asked or path.stat().st_size):
                return path
    what = f"stage {args.stage}" if args.stage else f"rank {args.rank}"
    raise EnvironmentFault(
        f"{run_dir.name} has no log of {what} yet", hint=f"`launcher status {names.typed(run_dir)}` says what it does"
    )


def _print_from(path: Path, offset: int) -> int:
    with path.open("rb") as file:
        file.seek(offset)
        while block := file.read(_BLOCK_BYTES):
            sys.stdout.buffer.write(block)
        sys.stdout.flush()
        return file.tell()
