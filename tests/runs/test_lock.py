"""One process runs a run directory, and its death, however sudden, releases it."""

import fcntl
import os
import subprocess
import sys
import threading

from launcher.runs import lock
from launcher.runs.paths import RunDir

HOLDER = """
import subprocess, sys, time
from pathlib import Path
from launcher.runs import lock
from launcher.runs.paths import RunDir
with lock.hold(RunDir(Path(sys.argv[1]))) as taken:
    child = subprocess.Popen(["sleep", "600"])
    print(taken, child.pid, flush=True)
    time.sleep(600)
"""


def test_the_lock_is_exclusive_and_dies_with_a_killed_owner_although_its_child_lives(tmp_path):
    """A child that inherited the descriptor would keep the run locked after SIGKILL of the launcher."""
    run_dir = RunDir(tmp_path)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    taken, child = holder.stdout.readline().split()
    try:
        assert taken == "True"
        assert lock.held(run_dir)
        assert lock.owner(run_dir).pid == holder.pid
        with lock.hold(run_dir) as second:
            assert not second
        holder.kill()
        holder.wait()
        with lock.hold(run_dir) as third:
            assert third
    finally:
        holder.kill()
        subprocess.run(["kill", child], check=True)
    assert not lock.held(run_dir)


def test_a_start_is_not_put_off_by_somebody_who_only_asks(tmp_path):
    """`held` takes the lock for a moment; `status` in a loop must not look like a running launcher."""
    run_dir = RunDir(tmp_path)
    assert not lock.held(run_dir)
    asker = os.open(run_dir.lock, os.O_RDONLY | os.O_CREAT, 0o600)
    fcntl.flock(asker, fcntl.LOCK_SH)
    leave = threading.Timer(0.2, os.close, [asker])
    leave.start()
    with lock.hold(run_dir) as taken:
        assert taken
        assert lock.held(run_dir)
    leave.join()
