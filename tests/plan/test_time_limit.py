"""`launch.time_limit`: from the text of the recipe to the job."""

import pytest

from launcher.errors import LauncherError
from launcher.plan.jobs import seconds
from launcher.render.plan_text import plan_text
from tests.support import planning


@pytest.mark.parametrize(
    ("text", "expected"),
    [("00:02:00", 120), ("12:00:00", 43_200), ("100:00:01", 360_001), ("2-01:00:00", 176_400), ("1-00:00:00", 86_400)],
)
def test_days_hours_minutes_and_seconds_are_counted(text, expected):
    """Written as schedulers write it."""
    assert seconds(text) == expected


def test_the_training_job_has_the_limit_and_the_plan_says_what_it_does(tmp_path):
    """Preparing data cannot be saved half-way; its time counts, but nothing ends it."""
    plan = planning.plan(tmp_path, "launch.time_limit='12:00:00'")
    assert [job.time_limit_s for job in plan.jobs] == [None, 43_200]
    assert "leaves, saved, before 12 h 00 min are over (launch.time_limit)" in plan_text(plan)

    without = planning.plan(tmp_path)
    assert [job.time_limit_s for job in without.jobs] == [None, None]
    assert "launch.time_limit" not in plan_text(without)


def test_a_limit_that_leaves_no_time_to_train_is_refused(tmp_path):
    """It would start, leave, and start again for ever."""
    with pytest.raises(LauncherError) as caught:
        planning.plan(tmp_path, "launch.time_limit='00:00:59'")
    (said,) = planning.faults(caught.value)
    assert "launch.time_limit: `00:00:59` is over before a step is made and saved" in said
    assert 'hint: write `time_limit: "00:02:00"`, or more' in said


def test_a_limit_of_a_minute_is_possible_and_warned_of(tmp_path):
    (said,) = [
        each for each in planning.plan(tmp_path, "launch.time_limit='00:01:00'").warnings if "time_limit" in each
    ]
    assert "half a minute is kept for leaving" in said
