"""A loss that jumps is told; noise is not."""

from __future__ import annotations

import math
import random

import pytest

from launcher.worker.spikes import Spikes


def noisy(steps: int, *, seed: int, noise: float) -> list[float]:
    """A loss that falls from 3 to about 0.5 and is noisy all the way."""
    numbers = random.Random(seed)
    return [0.5 + 2.5 * math.exp(-step / 2000) + numbers.gauss(0, noise) for step in range(steps)]


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05, 0.15])
def test_ten_thousand_healthy_steps_raise_no_alarm(noise: float):
    spikes = Spikes()

    assert [loss for loss in noisy(10_000, seed=1, noise=noise) if spikes.add(loss) is not None] == []


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.15])
def test_a_tenfold_loss_is_a_spike_and_the_usual_one_is_told(noise: float):
    """Within the noise of the losses before it; their mean at that time is 0.5 + 2.5/e."""
    spikes = Spikes()
    for loss in noisy(2000, seed=2, noise=noise):
        assert spikes.add(loss) is None
    usual = spikes.add(14.2)

    assert usual == pytest.approx(0.5 + 2.5 * math.exp(-0.95), abs=0.1)


def test_a_rise_that_stays_is_told_once_in_fifty_losses():
    """One line, not one per step."""
    spikes = Spikes()
    for loss in noisy(300, seed=3, noise=0.05):
        spikes.add(loss)

    assert [step for step in range(90) if spikes.add(50.0) is not None] == [0, 50]


def test_there_must_be_thirty_losses_to_judge_by():
    spikes = Spikes()

    assert [spikes.add(1.0) for _ in range(29)] + [spikes.add(100.0)] == [None] * 30


def test_what_is_not_a_number_is_left_to_others():
    """It would make every later comparison false."""
    spikes = Spikes()
    for _ in range(40):
        spikes.add(1.0)

    assert spikes.add(math.nan) is None
    assert spikes.add(5.0) == 1.0
