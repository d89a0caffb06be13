"""What the local executor makes of signals that end its stages, and what it tells them of their time."""

import os
import signal
import time

import pytest

from launcher.errors import Exit, MachineFailed, RunFailed
from launcher.executors import local
from launcher.executors.interrupts import Interrupts
from launcher.runs import state
from launcher.runs.stopping import SIGNALS
from tests.executors import stages
from tests.executors.test_local import Silent

ROOT_CAUSE = "print('Root Cause (first observed failure):\\n[0]:\\n  rank      : 1 (local_rank: 1)\\n  exitcode  : -{} (pid: 7)')\n"
REFUSED = "note(0, 86, 'infrastructure', 'Connection reset by peer')\n"


@pytest.mark.parametrize(
    "script",
    [
        *(f"os.kill(os.getpid(), {number.value})" for number in SIGNALS if number != signal.SIGINT),
        "import signal\nsignal.signal(2, signal.SIG_DFL)\nos.kill(os.getpid(), 2)",
        REFUSED + ROOT_CAUSE.format(10) + "sys.exit(1)",
        "print('torch.distributed.elastic.multiprocessing.api.SignalException: Process 7 got signal: 15')\nsys.exit(1)",
    ],
)
def test_a_request_that_comes_before_anybody_can_hear_it_stops_the_run(script, tmp_path):
    """torchrun takes seconds to start and a rank some milliseconds; the request was none the less a request."""
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("train", script, processes=2))

    assert local.run(run_dir, Silent()) == Exit.SAVED_AND_STOPPED
    assert state.derive(run_dir) == state.State("stopped", "nothing saved yet")


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (ROOT_CAUSE.format(9) + "sys.exit(1)", MachineFailed),
        ("note(1, 93, 'code', 'boom')\nprint('SignalException: Process 7 got signal: 15')\nsys.exit(1)", RunFailed),
    ],
)
def test_a_failure_stays_a_failure_beside_a_signal(script, kind, tmp_path):
    """SIGKILL asks for nothing, and who stops a run that has failed has not made it whole."""
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("train", script, processes=2))

    with pytest.raises(kind):
        local.run(run_dir, Silent())


def test_a_run_that_was_finished_when_it_was_asked_is_finished(tmp_path):
    """There is nothing left to go on with."""
    said = "print('SignalException: Process 7 got signal: 15')\n"
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("train", "note(0, 0, 'finished')\n" + said + "sys.exit(1)"))

    assert local.run(run_dir, Silent()) == Exit.DONE


def test_preparing_that_is_asked_to_stop_is_no_failure(tmp_path):
    """Nothing was trained, and the same command goes on."""
    script = "os.kill(os.getpid(), 15)"
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("prepare", script), stages.job("train", ""))

    assert local.run(run_dir, Silent()) == Exit.SAVED_AND_STOPPED


def test_the_training_stage_is_told_when_its_time_is_up_counted_from_the_start_of_the_launcher(tmp_path):
    """Preparing the data uses up some of it; who goes home at six does not care what took so long."""
    tell = "open(f'{run}/told', 'a').write(os.environ.get('LAUNCHER_DEADLINE', '-') + ' ')\n"
    prepare = stages.job("prepare", tell + "time.sleep(1)\nopen(f'{run}/data.json', 'w').write('{}')\n")
    train = stages.job("train", tell + "note(0, 85, 'stopped')")
    limited = stages.dataclasses.replace(train, time_limit_s=3600)
    run_dir = stages.run_dir(tmp_path / "demo", prepare, limited)
    before = time.time()
    code = local.run(run_dir, Silent())
    after = time.time()
    preparing, training = (run_dir.root / "told").read_text().split()

    assert code == Exit.SAVED_AND_STOPPED
    assert preparing == "-"
    assert before + 3600 - 0.001 <= float(training) <= after + 3600 - 1


@pytest.mark.parametrize("number", [number for number in SIGNALS if number != signal.SIGQUIT])
def test_each_of_the_signals_asks_the_launcher(number, tmp_path):
    """Schedulers send SIGUSR1 or SIGUSR2 where one asks them to; by default a process dies of those."""
    with Interrupts(stages.run_dir(tmp_path / "demo")) as interrupts:
        assert not interrupts.asked()
        os.kill(os.getpid(), number)
        assert interrupts.asked()
        assert not interrupts.urgent()
