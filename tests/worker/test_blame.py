"""Which rank did not arrive, from canned beats; and when a rank is late at all."""

from __future__ import annotations

import pytest

from launcher.worker.beats import Beat
from launcher.worker.blame import Standing, behind, blame, verdict
from launcher.worker.limits import Limits

WAITING = """Thread 0x1 (most recent call first):
  File "/x/threading.py", line 320 in wait

Current thread 0x2 (most recent call first):
  File "/x/torch/distributed/distributed_c10d.py", line 3000 in all_gather_into_tensor
  File "/x/accelerate/utils/operations.py", line 330 in _gpu_gather_one
  File "/x/trl/trainer/sft_trainer.py", line 1640 in compute_loss
"""
SLEEPING = """Current thread 0x2 (most recent call first):
  File "/x/datasets/arrow_dataset.py", line 10 in read
  File "/x/torch/utils/data/_utils/fetch.py", line 50 in fetch
  File "/x/launcher/worker/watched.py", line 50 in get_batch_samples
  File "/x/transformers/trainer.py", line 1873 in _run_epoch
"""


def standing(
    rank: int, beat: tuple | None, *, waited: float = 6.0, state: str = "S", stacks: str = WAITING
) -> Standing:
    return Standing(rank, Beat(*beat) if beat else None, waited, state, "", stacks)


FORWARD, DATA = ("forward", 12, 0, 3), ("data", 12, 0, 1)


@pytest.mark.parametrize(
    ("ranks", "blamed"),
    [
        ([standing(0, FORWARD), standing(1, DATA, stacks=SLEEPING)], 1),
        ([standing(0, DATA, stacks=SLEEPING), standing(1, FORWARD)], 0),
        ([standing(0, ("data", 13, 0, 1)), standing(1, FORWARD)], 1),
        ([standing(0, FORWARD), standing(1, FORWARD, state="T")], 1),
        ([standing(0, FORWARD, stacks=SLEEPING), standing(1, FORWARD, state="T")], 1),
        ([standing(0, FORWARD), standing(1, FORWARD, state="D")], 1),
        ([standing(0, FORWARD), standing(1, FORWARD, stacks=SLEEPING)], 1),
        ([standing(0, FORWARD), standing(1, FORWARD), standing(2, None)], 2),
        ([standing(rank, FORWARD if rank != 5 else DATA) for rank in range(16)], 5),
    ],
    ids=[
        "phase",
        "phase of rank 0",
        "step",
        "stopped",
        "stopped, not the sleeper",
        "device",
        "stack",
        "silent",
        "of 16",
    ],
)
def test_the_rank_that_is_behind_is_blamed(ranks: list[Standing], blamed: int):
    """Least progress first; of equals the one that waits for nobody."""
    assert blame(ranks).rank == blamed


def test_ranks_that_are_equally_far_are_all_behind():
    assert behind({0: (12, 3), 1: (12, 1), 2: (12, 1), 3: (13, 1)}) == [1, 2]


def test_the_verdict_says_what_the_rank_was_doing_and_for_how_long():
    told = verdict(standing(1, DATA, stacks=SLEEPING), limit_s=5)

    assert told == "rank 1 did not arrive: it has been loading data for 6 s at step 12 (limit 5 s)"


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (
            standing(1, FORWARD, state="T"),
            "rank 1 on node7 did not arrive: it has been in the forward pass for 6 s at step 12 (limit 5 s); the process is stopped, by SIGSTOP for instance",
        ),
        (
            standing(0, FORWARD),
            "rank 0 on node7 waits in a collective operation for ranks that did not arrive: it has been in the forward pass for 6 s at step 12 (limit 5 s)",
        ),
        (
            standing(3, None, stacks=""),
            "rank 3 on node7 did not arrive: it has been starting for 6 s before the first step (limit 5 s)",
        ),
    ],
    ids=["stopped", "all wait", "silent"],
)
def test_the_verdict_names_host_and_reason(one: Standing, told: str):
    assert verdict(one, limit_s=5, host="node7") == told


def at(phase: str, step: int) -> Beat:
    """Somewhere in a step of an attempt that has begun with step 11."""
    return Beat(phase, step, 0, 1, 11)


def moved(limits: Limits, phase: str, seconds: list[float]) -> None:
    for step, each in enumerate(seconds, 11):
        limits.moved(at(phase, step), each)


def test_a_limit_follows_what_steps_take():
    """Five times the 99th percentile; the one slow step of a hundred does not count."""
    limits = Limits()
    moved(limits, "forward", [20.0] * 99 + [200.0])

    assert limits.limit(at("forward", 111)) == 100.0
    assert limits.limit(at("data", 111)) == 60.0


def test_before_the_second_step_of_an_attempt_a_rank_has_half_an_hour():
    """It loads weights, compiles, allocates."""
    limits = Limits()

    assert limits.limit(Beat("load", 0, 0, 1)) == 1800.0
    assert limits.limit(at("forward", 11)) == 1800.0
    assert (limits.limit(at("forward", 12)), limits.limit(at("save", 12))) == (60.0, 600.0)


def test_a_limit_that_is_given_does_not_move():
    limits = Limits(5)
    moved(limits, "forward", [20.0] * 50)

    assert limits.limit(Beat("load", 0, 0, 1)) == 150.0
    assert (limits.limit(at("forward", 61)), limits.limit(at("evaluate", 61))) == (5.0, 50.0)
