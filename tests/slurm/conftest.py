"""A SLURM cluster for the tests of this folder, and skips with the reason where none can be had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.slurm.lab import Lab, why_not
from tests.slurm.settings import Settings


@contextmanager
def a_lab(folder: Path, settings: Settings) -> Iterator[Lab]:
    """A lab that is down afterwards, whatever happens."""
    if reason := why_not(settings):
        pytest.skip(reason)
    lab = Lab.start(folder, settings)
    try:
        yield lab
    finally:
        lab.stop()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab that the tests of a session share; see `cluster`."""
    with a_lab(tmp_path_factory.mktemp("lab"), Settings()) as lab:
        yield lab


@pytest.fixture
def cluster(lab: Lab) -> Iterator[Lab]:
    """The shared lab, idle; what a test leaves in it is ended after the test."""
    yield lab
    lab.reset()


@pytest.fixture(scope="session")
def separate_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Like `lab`, but every node is a host of its own."""
    with a_lab(tmp_path_factory.mktemp("far"), Settings(separate=True)) as lab:
        yield lab


@pytest.fixture
def separate(separate_lab: Lab) -> Iterator[Lab]:
    """The shared lab of separate hosts, idle, all of them on."""
    yield separate_lab
    separate_lab.reset()


@pytest.fixture
def make_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Lab]]:
    """`make_lab(requeue=False)`: a lab of the test's own."""
    with ExitStack() as labs:
        yield lambda settings=None, **knobs: labs.enter_context(
            a_lab(tmp_path_factory.mktemp("own"), settings or Settings(**knobs))
        )
