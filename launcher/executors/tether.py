"""`python -m launcher.executors.tether PARENT ARGV…`: become ARGV, and be asked to stop when PARENT dies.

Linux sends a process SIGTERM at its parent's death if the process asked for it (PR_SET_PDEATHSIG, prctl(2)); the
request survives exec. torchrun hands SIGTERM on to its ranks, which save and leave: a launcher that is killed with
SIGKILL neither leaves a group running unattended nor loses steps.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then exec the command."""
    parent, *argv = sys.argv[1:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before we asked
        raise SystemExit(1)
    os.execvp(argv[0], argv)  # noqa: S606 - an argv list, no shell


if __name__ == "__main__":
    main()
