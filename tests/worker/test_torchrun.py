"""torchrun as ranks are started with: it waits for those that save, and for those that cannot hear yet."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.runs.stopping import SIGNALS
from tests.support.until import until

pytestmark = pytest.mark.train

SLOW = """
import os, pathlib, signal, sys, time
out = pathlib.Path(sys.argv[1])
(out / "started").write_text(str(os.getpid()))
time.sleep(2)  # an interpreter that is read from a slow disk
heard = []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, _: heard.append(signal.Signals(number).name))
while not heard:
    time.sleep(0.05)
time.sleep(3)  # saving
(out / "saved").write_text(" ".join(heard))
"""


@pytest.mark.slow
@pytest.mark.parametrize("first", [signal.SIGUSR1, signal.SIGTERM])
def test_a_rank_is_asked_once_it_can_hear_and_has_the_time_to_save(tmp_path: Path, first: signal.Signals):
    """It is asked before it has a handler, and torchrun is asked again and again while it saves."""
    (tmp_path / "slow.py").write_text(SLOW)
    handed_on = ["--signals-to-handle", ",".join(each.name for each in SIGNALS), "--shutdown-timeout", "60"]
    torchrun = [sys.executable, "-m", "launcher.worker.torchrun", "--standalone", *handed_on]
    agent = subprocess.Popen([*torchrun, "slow.py", str(tmp_path)], cwd=tmp_path, stderr=subprocess.PIPE)
    until((tmp_path / "started").exists, seconds=120)
    time.sleep(0.5)
    for number in (first, *SIGNALS, *SIGNALS):
        os.kill(agent.pid, number)
        time.sleep(0.1)
    _, said = agent.communicate(timeout=120)

    assert (tmp_path / "saved").read_text() == first.name, said.decode()
    assert b"SignalException" in said
