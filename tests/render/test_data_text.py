"""Prepared data as text: every figure in its place, nothing little rounded to nothing."""

import pytest

from launcher.render import data_text
from tests.render import facts
from tests.support import golden


def test_golden_screen_of_prepared_data():
    """The whole of what `launcher prepare` prints."""
    more = [("MADE", [data_text.work_line(facts.PACKED)])]
    golden.check(
        "render/data.txt", data_text.screen(facts.PACKED, more=more, following=["launcher run support.yaml"]) + "\n"
    )


def test_golden_lengths():
    """Tokens of a row by source, what is cut, and what the loss is on."""
    golden.check("render/lengths.txt", "\n".join(data_text.length_table(facts.PACKED)) + "\n")


def test_the_line_from_rows_to_steps():
    """3,058 + 551 rows; 1,622,600 of 2,660,000 tokens are 61 %."""
    assert data_text.mixed_line(facts.PACKED) == (
        "3,609 rows → 652 packed (99.6 % full) → 41 steps/epoch; loss on 61 % of tokens"
    )


def test_without_packing_and_weights_the_table_says_less():
    """One source, taken as it is: no row is packed, no share was asked for, nothing ended the pass."""
    plain = {
        "sets": {"train": {"rows": 10, "fillers": 0, "tokens": 200, "trained_tokens": 50, "packing": None, "fill": None}},
        "sources": {"sums": {"read": 10, "rows": 10, "cut": 0}},
        "mixture": {"limited_by": None, "sources": {"sums": {"asked": None, "share": 1.0, "rows": 10, "tokens": 200, "epochs": 1.0, "max_epochs": 4.0}}},
        "steps_per_epoch": 3,
    }  # fmt: skip
    assert data_text.data_table(plain) == [
        "label  rows  tokens  share (asked)  epochs    cut",
        "sums     10     200  100.0 %          1.00  0.0 %",
        "10 rows → 3 steps/epoch; loss on 25 % of tokens",
    ]


def test_a_repeated_source_is_said_to_be():
    """Four times the same rows are what `max_epochs` allows, not an accident."""
    part = {"asked": 0.5, "share": 0.5, "rows": 40, "tokens": 400, "epochs": 4.0, "max_epochs": 4.0}
    table = data_text.data_table({"mixture": {"sources": {"few": part}}, "sets": {"train": {}}})

    assert table[1].endswith("no row more than 4 times")


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [(0.0, 0, "0 %"), (0.0001, 0, "<1 %"), (0.0004, 1, "<0.1 %"), (0.5, 0, "50 %"), (0.9996, 0, ">99 %"), (0.9996, 1, ">99.9 %"), (1.0, 1, "100.0 %")],
)  # fmt: skip
def test_a_share_is_nothing_or_all_only_when_it_is(value, digits, shown):
    """One cut row in a million is not `0 %`."""
    assert data_text.percent(value, digits) == shown


def test_work_from_the_cache_is_told_from_work_done():
    """183,000 rows in 81 s by 8 processes, or nothing at all."""
    assert (
        data_text.work_line(facts.PACKED)
        == "183,000 rows, 267M tokens in 1 min 21 s by 8 processes; 162 rows tokenised before"
    )
    assert data_text.work_line({"work": {"from_cache": True, "seconds": 0.04}}) == "taken from the cache in 0.0 s"


def test_facts_of_an_older_launcher_are_shown_as_far_as_they_go():
    """`data.json` without sources is no reason for a trace."""
    assert data_text.data_table({"sets": {"train": {"rows": 5, "tokens": 10, "trained_tokens": 5}}, "steps_per_epoch": 2}) == [
        "label  rows  tokens  share (asked)  epochs  cut",
        "5 rows → 2 steps/epoch; loss on 50 % of tokens",
    ]  # fmt: skip
