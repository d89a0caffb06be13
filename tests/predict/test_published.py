"""Speeds that others published, and how their comparison is counted."""

from __future__ import annotations

from statistics import median

import pytest

from benchmarks.predictor import order, published
from launcher.predict.rates import efficiency


def test_what_tests_the_table_does_not_set_it() -> None:
    """Each published point has one use, each of the largest sources has both, and no more set it than test it."""
    points = published.points()
    assert len({(point.source, point.what, point.setup.gpu) for point in points}) == len(points)
    tests = [point for point in points if point.use == "tests"]
    assert 0.5 <= len(tests) / len(points) < 0.75
    for source in (published.FOUNDRY, published.TUNE, published.QWEN, published.NEMO, published.ANSWER):
        assert {point.use for point in points if point.source == source} == {"sets", "tests"}


def test_points_that_did_not_set_the_table_are_within_what_it_claims() -> None:
    """A row of the table says how far a speed may be off: of those that it was not fitted to seven of eight are nearer."""
    tests = [point for point in published.points() if point.use == "tests"]
    assert median(abs(published.error(point)) for point in tests) < 0.15
    near = [point for point in tests if abs(published.error(point)) <= efficiency(point.setup.gpu).error]  # type: ignore[arg-type]
    assert len(near) / len(tests) >= 0.875


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1, 2, 3], [10, 20, 30], 1.0),
        ([1, 2, 3], [30, 20, 10], -1.0),
        ([1, 2, 3, 4], [1, 2, 4, 3], 0.8),
        ([1, 1, 3], [5, 6, 7], 0.866),
    ],
)
def test_rank_correlation_by_hand(left: list[float], right: list[float], expected: float) -> None:
    """Spearman: 1 - 6 · Σd² / (n (n² - 1)): one swap of neighbours among four is 1 - 12/60.

    With two equal, ranks 1.5, 1.5, 3 against 1, 2, 3: 1.5 / √(1.5 · 2).
    """
    assert order.rank_correlation(left, right) == pytest.approx(expected, abs=1e-3)


def test_pairs_in_order_by_hand() -> None:
    """Of three pairs one is nearer than 5 %; of the other two one is the wrong way round."""
    assert order.in_order([1.0, 2.0, 1.5], [10.0, 10.2, 20.0]) == 0.5


def test_every_choice_of_the_sweep_trains_the_same_batch() -> None:
    """Otherwise their seconds would not compare."""
    found = list(order.choices(["full", "lora"]))
    assert len(set(found)) == len(found) == 84
    assert {choice.rows * choice.ranks * choice.accumulation for choice in found} == {order.BATCH}
    assert {order.predicted(choice).tokens for choice in found} == {order.BATCH * order.LENGTH}
