"""A light install says what it lacks."""

import sys

import pytest

from launcher.errors import EnvironmentFault
from launcher.executors import packages


def test_missing_packages_are_named_before_anything_starts():
    """An ImportError from a worker's log would name only the first."""
    with pytest.raises(EnvironmentFault, match=r"no nowhere_one, nowhere_two$") as raised:
        packages.require(("json", "nowhere_one", "nowhere_two"))

    assert raised.value.exit_code == 4
    assert raised.value.hint == "pip install 'finetune-launcher[train,eval]'"


def test_looking_does_not_import():
    """The launcher stays light where torch is installed, too."""
    before = "trl" in sys.modules
    packages.require()

    assert ("trl" in sys.modules) == before
