"""A launcher in the background: a session of its own, its output in the run directory."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from launcher.runs import attempts, lock
from launcher.runs.paths import RunDir

_POLL_S = 0.05


def start(run_dir: RunDir) -> tuple[int | None, str]:
    """Continue a run in the background and return as soon as its attempt has begun.

    Returns:
        (None, "") when it runs; (exit code, its output) when it ended before.
    """
    before = attempts.numbers(run_dir)
    run_dir.launcher_log.parent.mkdir(parents=True, exist_ok=True)
    with run_dir.launcher_log.open("ab") as log:
        seen = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "launcher", "run", str(run_dir.root.resolve())],
            env={**os.environ, "PYTHONSAFEPATH": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    while process.poll() is None:
        if attempts.numbers(run_dir) != before and _owns(run_dir, process.pid):
            return None, ""
        time.sleep(_POLL_S)
    with run_dir.launcher_log.open("rb") as log:
        log.seek(seen)
        return process.returncode, log.read().decode(errors="replace")


def _owns(run_dir: RunDir, pid: int) -> bool:
    owner = lock.owner(run_dir)
    return owner is not None and owner.pid == pid
