"""Which ranks take longer than the others."""

from __future__ import annotations

import pytest

from launcher.worker.stragglers import slow


@pytest.mark.parametrize(
    ("own_s", "ranks"),
    [
        ([1.0, 1.0, 1.0, 1.0], []),
        ([1.0, 1.2, 1.0, 1.0], []),
        ([1.0, 5.0, 1.0, 1.0], [1]),
        ([1.0, 2.0, 1.0, 2.0, 1.0], [1, 3]),
        ([0.001, 0.010, 0.001, 0.001], []),
        ([0.1, 0.14], [1]),
        ([1.0], []),
    ],
    ids=["equal", "a fifth more", "five times", "two of five", "too short to matter", "one of two", "alone"],
)
def test_a_rank_is_slow_by_its_share_and_by_its_seconds(own_s: list[float], ranks: list[int]):
    """More than 1.3 times the median, and more than 20 ms above it. Of two ranks, the faster one is what is usual."""
    assert slow(own_s) == ranks
