"""The time by which a job must be over, as its processes are told."""

import pytest

from launcher.errors import EnvironmentFault
from launcher.runs.stopping import DEADLINE, deadline, with_limit


def test_a_limit_becomes_a_time_of_day():
    """Ranks may start minutes after the job did; its end does not move."""
    assert with_limit({}, 1000.0, 3600) == {DEADLINE: "4600.0"}
    assert deadline({DEADLINE: "4600.0"}) == 4600.0


def test_without_a_limit_nothing_is_said():
    """What is known from outside stays in the environment as it is."""
    assert with_limit({}, 1000.0, None) == {}
    assert with_limit({DEADLINE: "2000"}, 1000.0, None) == {}
    assert deadline({}) is None
    assert deadline({DEADLINE: ""}) is None


@pytest.mark.parametrize(("around_us", "expected"), [("2000", "2000.0"), ("9000", "4600.0")])
def test_the_earlier_of_two_ends_counts(around_us, expected):
    """A limit of our own cannot make an allocation last longer."""
    assert with_limit({DEADLINE: around_us}, 1000.0, 3600) == {DEADLINE: expected}


def test_what_is_no_time_is_refused():
    """A deadline that is not understood would be missed."""
    with pytest.raises(EnvironmentFault) as caught:
        with_limit({DEADLINE: "18:00"}, 1000.0, None)
    assert caught.value.message == "LAUNCHER_DEADLINE is `18:00`, which is no time"
    assert caught.value.hint == "set it to Unix time in seconds, or unset it"
