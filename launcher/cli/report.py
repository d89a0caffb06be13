"""`launcher report RUN`: write report.html."""

from argparse import Namespace
from pathlib import Path

from launcher.errors import Exit
from launcher.render.report import html
from launcher.runs import names
from launcher.runs.files import write_text


def run(args: Namespace) -> int:
    """Draw the page from the run's files and print where it lies."""
    run_dir = names.find(Path(args.runs), args.run)
    write_text(run_dir.report, html(run_dir))
    print(names.short(run_dir.report))
    return Exit.DONE
