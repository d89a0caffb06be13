"""`launcher export RUN`: merge the adapter of a finished run into its base."""

from argparse import Namespace
from pathlib import Path

from launcher.cli import live
from launcher.errors import Exit
from launcher.executors import packages
from launcher.executors.export import export
from launcher.runs import names


def run(args: Namespace) -> int:
    """Merge, check what was saved, and print where it lies."""
    run_dir = names.find(Path(args.runs), args.run)
    packages.require()
    with live.view() as view:
        code = export(run_dir, view, base=args.merge_base, sets=args.set)
    if code == Exit.DONE:
        print(names.short(run_dir.merged))
    return code
