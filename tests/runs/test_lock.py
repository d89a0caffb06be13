"""One process runs a run directory, and its death, however sudden, releases it."""

import subprocess
import sys

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

ASKER = """
import sys
from pathlib import Path
from launcher.runs import lock
from launcher.runs.paths import RunDir
print(flush=True)
while True:
    lock.held(RunDir(Path(sys.argv[1])))
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


def test_asking_whether_a_run_is_locked_does_not_lock_it(tmp_path):
    """`status` in a loop must not make a start believe that the run is taken."""
    run_dir = RunDir(tmp_path)
    assert not lock.held(run_dir)
    with lock.hold(run_dir) as taken:
        assert taken
    asker = subprocess.Popen([sys.executable, "-c", ASKER, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        asker.stdout.readline()
        for _ in range(50):
            with lock.hold(run_dir) as taken:
                assert taken
    finally:
        asker.kill()
        asker.wait()
