"""A warning by a scheduler asks when the nodes are wanted; any other request asks at once."""

import os
import signal

import pytest

from launcher.executors.interrupts import Interrupts
from launcher.runs import stopping
from launcher.runs.paths import RunDir


@pytest.fixture
def run_dir(tmp_path):
    return RunDir(tmp_path)


def test_a_warning_counts_from_when_it_is_meant(run_dir):
    meant = []
    with Interrupts(run_dir, lambda warnings: bool(meant) and warnings == 2) as interrupts:
        assert not interrupts.asked()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert not interrupts.asked()
        meant.append(True)
        assert not interrupts.asked()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert interrupts.asked()
        assert not interrupts.by_person()


def test_other_signals_ask_at_once(run_dir):
    with Interrupts(run_dir, lambda _: False) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.asked()


def test_where_nobody_judges_every_signal_asks(run_dir):
    with Interrupts(run_dir) as interrupts:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert interrupts.asked()


def test_a_person_is_told_from_a_scheduler(run_dir):
    with Interrupts(run_dir) as interrupts:
        run_dir.stop_request.touch()  # by the launcher itself, for its ranks
        assert interrupts.asked()
        assert not interrupts.by_person()
        stopping.request(run_dir)
        assert interrupts.by_person()
