"""`python -m tests.slurm.janitor PID DIR`: take the lab in DIR down when process PID is gone."""

import os
import select
import sys
from pathlib import Path

from tests.slurm.lab import Lab


def main(pid: int, directory: Path) -> None:
    """Wait for the end of the process, of a killed one too, and clean up."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        pass
    else:
        select.select([handle], [], [])
    Lab.of(directory).stop()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
