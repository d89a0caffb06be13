"""`launcher stop RUN`: save at the next step boundary and leave."""

import time
from argparse import Namespace
from pathlib import Path

from launcher.cli import screens
from launcher.errors import EnvironmentFault, Exit
from launcher.runs import lock, names, state

_POLL_S = 0.1


def run(args: Namespace) -> int:
    """Leave the request; with `--wait SECONDS`, wait until the run has saved and left."""
    run_dir = names.find(Path(args.runs), args.run)
    if not lock.held(run_dir):
        print(f"{run_dir.name} is not running: {state.derive(run_dir).name}")
        return Exit.DONE
    run_dir.stop_request.touch()
    deadline = time.monotonic() + args.wait
    while args.wait and lock.held(run_dir):
        if time.monotonic() > deadline:
            raise EnvironmentFault(
                f"{run_dir.name} is still running after {args.wait:g} s; the request stands",
                hint=f"`launcher logs {names.typed(run_dir)} -f` shows what it does",
            )
        time.sleep(_POLL_S)
    print(screens.final(screens.look(run_dir)) if args.wait else f"{run_dir.name} saves at its next step and leaves")
    return Exit.DONE
