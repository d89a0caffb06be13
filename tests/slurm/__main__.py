"""`python -m tests.slurm [--separate] [--accounting] [COMMAND …]`: a lab for the time of a command, or of a shell."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.slurm.lab import Lab, why_not
from tests.slurm.settings import Settings


def main() -> int:
    """Bring it up, run the command where SLURM's programs find it, take it down; the command's exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.slurm", description=__doc__.partition(": ")[2])
    parser.add_argument("--separate", action="store_true", help="every node is a host of its own")
    parser.add_argument("--accounting", action="store_true", help="with sacct")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    settings = Settings(separate=args.separate, accounting=args.accounting)
    if reason := why_not(settings):
        sys.exit(reason)
    with tempfile.TemporaryDirectory(prefix="slurm-lab-") as folder:
        lab = Lab.start(Path(folder), settings)
        try:
            return subprocess.run(
                args.command or [os.environ.get("SHELL", "bash")], check=False, env=lab.env
            ).returncode
        finally:
            lab.stop()


if __name__ == "__main__":
    sys.exit(main())
