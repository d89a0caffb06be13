"""Leave when another rank has failed, instead of waiting in a collective operation that will never end."""

from __future__ import annotations

import os
import threading
import time

from launcher.runs import attempts
from launcher.runs.paths import RunDir
from launcher.worker.faults import Ending, ExitNote

_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_TO_FAIL_BY_ITSELF = 10.0


def watch(run_dir: RunDir, attempt: int, rank: int, note: ExitNote) -> None:
    """Look for failure notes of other ranks from a thread; some seconds after the first one, end this process too.

    torchrun sends SIGTERM to the ranks that are left, which we take as a request to save; a rank whose partner is
    gone could never do that.
    """
    threading.Thread(target=_watch, args=(run_dir, attempt, rank, note), daemon=True).start()


def _watch(run_dir: RunDir, attempt: int, rank: int, note: ExitNote) -> None:
    while (failed := attempts.first_failure(attempts.exits(run_dir, attempt))) is None or failed.who == str(rank):
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    time.sleep(_SECONDS_TO_FAIL_BY_ITSELF)
    ending = Ending("code", f"rank {failed.who} failed first")
    note.write(ending.rank_code, ending)
    os._exit(ending.rank_code)
