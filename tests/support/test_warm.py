"""The test server itself: results, exit codes, time limits, nothing left over."""

import os
import time

from tests.support import warm


def square(number: int) -> int:
    print(f"squaring {number}")
    return number * number


def fail_on_rank_one() -> None:
    if os.environ["RANK"] == "1":
        raise SystemExit(7)


def sleep() -> None:
    time.sleep(600)


def test_a_function_returns_its_value_and_its_output():
    result = warm.run("tests.support.test_warm:square", {"number": 7})

    assert result.value == 49
    assert result.logs == ("squaring 7\n",)


def test_each_rank_reports_its_own_exit_code():
    assert warm.run("tests.support.test_warm:fail_on_rank_one", ranks=2).codes == (0, 7)


def test_a_job_past_its_time_is_killed_and_leaves_no_process():
    job = warm.start("tests.support.test_warm:sleep", ranks=2)
    result = job.wait(timeout=0.5)

    assert result.timed_out
    assert result.codes == (-9, -9)
    assert not [pid for pid in job.pids if os.path.exists(f"/proc/{pid}")]  # noqa: PTH110
