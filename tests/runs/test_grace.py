"""How long a killed attempt would have needed, worked out by hand."""

import pytest

from launcher.runs import grace
from launcher.runs.attempts import Attempt


def events(*lines):
    return [{"event": name, **fields} for name, fields in lines]


KILLED = (
    ("attempt", {"attempt": 1}),
    ("step", {"seconds": 2.0}),
    ("commit", {"seconds": 8.0}),
    ("step", {"seconds": 4.0}),
    ("asked", {}),
)


def test_a_step_and_a_save_and_half_as_much_again():
    """1.5 × (4 s + 8 s) + 5 s = 23 s."""
    (found,) = grace.shortfalls(events(*KILLED, ("attempt", {"attempt": 2})), [Attempt(1, "h", 1, 0.0)])
    assert (found.attempt, found.step_s, found.save_s, found.needed_s) == (1, 4.0, 8.0, 23)
    assert "it needs 23 s" in found.sentence()


@pytest.mark.parametrize(
    ("more", "facts"),
    [
        ([("commit", {"seconds": 1.0})], Attempt(1, "h", 1, 0.0)),  # it had saved
        ([("end", {})], Attempt(1, "h", 1, 0.0)),  # it came to its end
        ([], Attempt(1, "h", 1, 0.0, code=85)),  # it lived to say how it ended
    ],
)
def test_who_saved_or_could_say_so_had_time_enough(more, facts):
    assert grace.shortfalls(events(*KILLED, *more, ("attempt", {"attempt": 2})), [facts]) == ()


def test_one_that_is_leaving_now_is_not_judged():
    assert grace.shortfalls(events(*KILLED), []) == ()


def test_without_a_save_nobody_can_say_how_long_one_takes():
    said = events(("attempt", {"attempt": 1}), ("asked", {}), ("attempt", {"attempt": 2}))
    (found,) = grace.shortfalls(said, [])
    assert found.needed_s is None
    assert "not known yet" in found.sentence()
