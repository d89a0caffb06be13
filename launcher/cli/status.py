"""`launcher status [RUN]`: all runs in a table, or one in full."""

import json
from argparse import Namespace
from pathlib import Path

from launcher.cli import screens
from launcher.cli.look import look, looks
from launcher.errors import Exit
from launcher.runs import names


def run(args: Namespace) -> int:
    """Print what the files of the runs say, and SLURM of those that were submitted; starts and changes nothing."""
    runs = Path(args.runs)
    if args.run is not None:
        seen = look(names.find(runs, args.run))
        print(json.dumps(screens.as_json(seen), indent=1) if args.json else screens.run_screen(seen))
        return Exit.DONE
    listed = looks(names.existing(runs))
    if args.json:
        print(json.dumps([screens.as_json(each) for each in listed], indent=1))
    else:
        print(screens.runs_table(listed) if listed else f"no runs in {runs}; `launcher run RECIPE` starts one")
    return Exit.DONE
