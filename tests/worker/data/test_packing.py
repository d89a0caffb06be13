"""Which sequences share a row: against a plain best-fit decreasing written out here, and against rows filled by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest

from launcher.worker.data.packing import Packed, Strategy, pack

STRATEGIES = get_args(Strategy)


def rows_of(packed: Packed) -> list[list[tuple[int, int, int]]]:
    """Each row as pieces `(sequence, start, stop)`."""
    pieces = list(zip(packed.sequence.tolist(), packed.start.tolist(), packed.stop.tolist(), strict=True))
    edges = [0, *packed.ends.tolist()]
    assert edges[-1] == len(pieces)
    return [pieces[a:b] for a, b in pairwise(edges)]


def tokens_of(row: list[tuple[int, int, int]]) -> int:
    return sum(stop - start for _, start, stop in row)


def textbook(lengths: list[int], max_length: int) -> list[list[int]]:
    """Best-fit decreasing as the textbooks have it: each length into the fullest row with room, or into a new one."""
    rows: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        fits = [row for row in rows if sum(row) + length <= max_length]
        if fits:
            max(fits, key=sum).append(length)
        else:
            rows.append([length])
    return rows


def cases() -> list[tuple[list[int], int]]:
    """Random sets: many short and few long, all alike, two lengths that just do or do not fit together, only edges."""
    random = np.random.default_rng(7)
    made: list[tuple[list[int], int]] = [([], 4), ([4], 4), ([1] * 9, 4), ([5, 4, 4, 9], 4), ([3, 3, 1], 1)]
    for size in (1, 2, 7, 60, 300):
        for limit in (1, 2, 10, 64, 1000):
            made += [
                (random.integers(1, limit + 1, size).tolist(), limit),
                (np.clip(random.lognormal(np.log(limit / 4 + 1), 0.8, size), 1, 2.5 * limit).astype(int).tolist(), limit),
                (random.choice([1, (limit + 1) // 2, limit // 2 + 1, max(limit - 1, 1), limit, limit + 1], size).tolist(), limit),
            ]  # fmt: skip
    return made


@pytest.mark.parametrize(
    ("strategy", "rows"),
    [
        ("bfd", [[(0, 0, 4)], [(2, 0, 3), (3, 0, 1)], [(1, 0, 2)]]),
        ("bfd_split", [[(0, 0, 4)], [(2, 0, 3), (0, 4, 5)], [(1, 0, 2), (3, 0, 1)]]),
        ("wrapped", [[(0, 0, 4)], [(0, 4, 5), (1, 0, 2), (2, 0, 1)], [(2, 1, 3), (3, 0, 1)]]),
    ],
)
def test_five_two_three_one_in_rows_of_four(strategy, rows):
    """Small enough to place by hand, and TRL's documentation shows the same rows for the first two."""
    assert rows_of(pack([5, 2, 3, 1], 4, strategy)) == rows


def test_the_fullest_row_with_room_is_chosen():
    """6, 5, 4, 3, 2 in rows of 10: the 4 goes to the 6, not to the 5, and the 3 and the 2 fill the other one."""
    assert rows_of(pack([2, 3, 4, 5, 6], 10, "bfd")) == [[(4, 0, 6), (2, 0, 4)], [(3, 0, 5), (1, 0, 3), (0, 0, 2)]]


def test_one_row_takes_all_that_fit_before_the_next():
    """Two rows with room 5 (after a 7 each) and five pieces of 2: the first row takes two, the second two, the last opens one."""
    rows = rows_of(pack([7, 7, 2, 2, 2, 2, 2], 12, "bfd"))

    assert rows == [[(0, 0, 7), (2, 0, 2), (3, 0, 2)], [(1, 0, 7), (4, 0, 2), (5, 0, 2)], [(6, 0, 2)]]


def test_of_equally_full_rows_the_one_that_waited_longest_is_next():
    """Room 2 in three rows of an 8, then in the row 5 + 3: the 2 goes to the first 8, the two 1 to the second."""
    rows = rows_of(pack([8, 8, 8, 5, 3, 2, 1, 1], 10, "bfd"))

    assert [[number for number, _, _ in row] for row in rows] == [[0, 5], [1, 6, 7], [2], [3, 4]]


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split"])
def test_rows_are_those_of_the_textbook(strategy):
    """On a histogram it is the same algorithm: the same number of rows, as full as there, and not only about as good."""
    for lengths, limit in cases():
        if strategy == "bfd":
            pieces = [min(length, limit) for length in lengths]
        else:
            pieces = [min(limit, length - start) for length in lengths for start in range(0, length, limit)]
        expected = sorted(map(sum, textbook(pieces, limit)))

        assert sorted(map(tokens_of, rows_of(pack(lengths, limit, strategy)))) == expected, (lengths, limit)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_kept_token_stands_in_one_row(strategy):
    """`bfd` keeps the first `max_length` tokens of a sequence, the others keep all; none is lost or doubled, no row overflows."""
    for lengths, limit in cases():
        rows = rows_of(pack(lengths, limit, strategy))
        kept = sorted((number, token) for row in rows for number, a, b in row for token in range(a, b))

        assert kept == [
            (number, token)
            for number, length in enumerate(lengths)
            for token in range(min(length, limit) if strategy == "bfd" else length)
        ], (lengths, limit)
        assert all(0 < tokens_of(row) <= limit for row in rows), (lengths, limit)
        assert all(a < b for row in rows for _, a, b in row), (lengths, limit)


def test_wrapped_rows_are_full_and_in_order():
    """All rows but the last are filled to the last token, and read one after the other they are the sequences as given."""
    for lengths, limit in cases():
        rows = rows_of(pack(lengths, limit, "wrapped"))
        read = [(number, token) for row in rows for number, a, b in row for token in range(a, b)]

        assert read == [(number, token) for number, length in enumerate(lengths) for token in range(length)]
        assert all(tokens_of(row) == limit for row in rows[:-1])
        assert len(rows) == -(-sum(lengths) // limit)


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split"])
def test_equal_lengths_keep_the_order_given(strategy):
    """Rows are read in the order they were opened, so sequences that could stand for one another stand as they came."""
    for lengths, limit in cases():
        whole = [(number, b - a) for row in rows_of(pack(lengths, limit, strategy)) for number, a, b in row if not a]
        opened = [number for number, tokens in whole if tokens == limit]

        assert opened == sorted(opened)
    assert pack([2] * 7, 4, strategy).sequence.tolist() == list(range(7))


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split"])
def test_rows_open_from_the_longest_to_the_shortest(strategy):
    """The order of rows is part of what is promised: by first piece, and within a row by piece."""
    for lengths, limit in cases():
        rows = [[b - a for _, a, b in row] for row in rows_of(pack(lengths, limit, strategy))]

        assert all(row == sorted(row, reverse=True) for row in rows)
        assert [row[0] for row in rows] == sorted((row[0] for row in rows), reverse=True)


@pytest.mark.parametrize(
    ("strategy", "rows"),
    [
        ("bfd", [[(1, 0, 3)], [(4, 0, 2)]]),
        ("bfd_split", [[(1, 0, 3)], [(4, 0, 2)]]),
        ("wrapped", [[(1, 0, 3), (4, 0, 1)], [(4, 1, 2)]]),
    ],
)
def test_empty_sequences_have_no_piece(strategy, rows):
    """A piece without tokens would put the boundary of a document where another begins."""
    assert rows_of(pack([0, 3, 0, 0, 2, 0], 4, strategy)) == rows
    assert rows_of(pack([0, 0], 4, strategy)) == []


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_lengths_give_the_same_rows(strategy):
    """Each rank, and the job that goes on after a kill, plans for itself."""
    lengths = np.random.default_rng(1).integers(1, 900, 5000)
    one, other = pack(lengths, 512, strategy), pack(lengths.tolist(), 512, strategy)

    for name in ("sequence", "start", "stop", "ends"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_rows_longer_than_sixteen_bits_are_sorted_too():
    """Lengths are sorted as 16-bit numbers where rows are short enough; 100,000 tokens are not."""
    lengths = [70_000, 30_000, 99_999, 1, 100_000, 65_536, 34_464]

    assert rows_of(pack(lengths, 100_000, "bfd")) == [
        [(4, 0, 100_000)],
        [(2, 0, 99_999), (3, 0, 1)],
        [(0, 0, 70_000), (1, 0, 30_000)],
        [(5, 0, 65_536), (6, 0, 34_464)],
    ]
