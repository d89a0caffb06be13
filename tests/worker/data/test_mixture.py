"""Quotas of a mixture, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from launcher.plan.mixture import asked_shares, epochs
from launcher.plan.types import MixturePlan, SourcePlan
from launcher.worker.data.mixture import chosen_rows, mix


def weighted(**weights: float) -> list[SourcePlan]:
    return [SourcePlan(label, label, weight=weight) for label, weight in weights.items()]


SIZES = {"big": 9000.0, "small": 1000.0}
EVEN = {"big": 0.5, "small": 0.5}


@pytest.mark.parametrize(
    ("strategy", "most", "expected", "ending"),
    [
        # 1,000 of each: `small` is used up when half of 2,000 tokens are its own.
        ("first_exhausted", 4.0, {"big": 1 / 9, "small": 1.0}, "small"),
        # 9,000 of each would repeat `small` nine times; four times are the most, so 4,000 of each.
        ("all_exhausted", 4.0, {"big": 4 / 9, "small": 4.0}, "small"),
        ("all_exhausted", 10.0, {"big": 1.0, "small": 9.0}, "big"),
        ("all_exhausted_without_replacement", 4.0, {"big": 1.0, "small": 1.0}, None),
    ],
)
def test_a_pass_ends_where_the_strategy_says(
    strategy: str, most: float, expected: dict[str, float], ending: str | None
):
    passes, limited_by = epochs(SIZES, EVEN, strategy, {"big": most, "small": most})

    assert passes == pytest.approx(expected)
    assert limited_by == ending


def test_without_weights_every_row_is_taken_once():
    shares = asked_shares(SIZES, {"big": None, "small": None}, None)
    passes, limited_by = epochs(SIZES, shares, "first_exhausted", {"big": 4.0, "small": 4.0})

    assert (passes, limited_by) == ({"big": 1.0, "small": 1.0}, None)


def test_temperature_flattens_sizes():
    """T = 1 keeps the sizes; T = 2 takes their roots: 9000 and 1000 become 3 to 1."""
    assert asked_shares(SIZES, {}, 1.0) == pytest.approx({"big": 0.9, "small": 0.1})
    assert asked_shares(SIZES, {}, 2.0) == pytest.approx({"big": 0.75, "small": 0.25})


def test_realised_shares_are_those_asked_within_a_row():
    """Rows of 1 to 200 tokens, 70 to 30: less than half a longest row beside the quota."""
    random = np.random.default_rng(1)
    lengths = {label: random.integers(1, 200, size).astype(np.int32) for label, size in (("a", 3000), ("b", 9000))}
    mixed = mix(lengths, MixturePlan(), weighted(a=0.7, b=0.3))
    tokens = {label: part.tokens for label, part in mixed.parts.items()}

    assert mixed.limited_by == "a"
    assert tokens["a"] == int(lengths["a"].sum())
    assert abs(tokens["b"] - tokens["a"] * 3 / 7) <= 100


def test_rows_can_be_the_unit():
    lengths = {"a": np.full(100, 5, np.int32), "b": np.full(1000, 50, np.int32)}
    mixed = mix(lengths, MixturePlan(unit="rows"), weighted(a=1.0, b=3.0))

    assert [len(mixed.parts[label].rows) for label in "ab"] == [100, 300]


def test_repeats_are_whole_passes_and_a_seeded_rest():
    """Two and a half passes over four rows of 10 tokens: each row twice, two of them once more."""
    rows = chosen_rows(np.full(4, 10, np.int32), 2.5, 42, "a", by_tokens=True)

    assert sorted(np.bincount(rows).tolist()) == [2, 2, 3, 3]


def test_a_smaller_share_takes_a_part_of_the_same_rows():
    """A ladder of weights then compares mixtures and not samples."""
    lengths = np.random.default_rng(0).integers(5, 50, 500).astype(np.int32)
    small, large = (set(chosen_rows(lengths, part, 42, "a", by_tokens=True).tolist()) for part in (0.2, 0.6))

    assert small < large


def test_the_choice_follows_the_seed():
    lengths = np.full(500, 10, np.int32)
    first, again, other = (chosen_rows(lengths, 0.3, seed, "a", by_tokens=True).tolist() for seed in (1, 1, 2))

    assert first == again != other


def test_at_least_one_row_is_taken():
    assert len(chosen_rows(np.full(10, 1000, np.int32), 0.0001, 42, "a", by_tokens=True)) == 1
