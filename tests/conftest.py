"""What every test sees: one thread per process, no hub, and the warm server ended with the session."""

import os
from collections.abc import Iterator

import pytest

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRL_EXPERIMENTAL_SILENCE="1")


@pytest.fixture(scope="session", autouse=True)
def _warm_server_ends_with_the_session() -> Iterator[None]:
    yield
    from tests.support import warm

    warm.stop()
