"""What every test sees: one thread per process, no hub, signals as a terminal gives them, and the warm server ended with the session."""

import os
import signal
import tempfile
from collections.abc import Iterator

import pytest

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRL_EXPERIMENTAL_SILENCE="1")

# What this machine's own runs have taught (`launcher calibrate`), and profiles of one's own, must not change what tests plan.
os.environ["XDG_CONFIG_HOME"] = f"{tempfile.gettempdir()}/launcher-tests-without-config"

for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):  # `nohup` and background jobs have them ignored
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _warm_server_ends_with_the_session() -> Iterator[None]:
    yield
    from tests.support import warm

    warm.stop()
