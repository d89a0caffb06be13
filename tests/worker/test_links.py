"""Ranks that sum known numbers before training: a damaged link is found there, and its machine named."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from launcher.runs import events
from launcher.runs.paths import RunDir
from tests.support import warm

pytestmark = pytest.mark.train


def checked(folder: Path, ranks: int, **more: object) -> list[dict]:
    result = warm.run("tests.worker.links_cases:check", {"run_dir": str(folder), **more}, ranks=ranks)
    assert result.value is not None
    return list(result.values)


def test_a_sum_that_is_right_is_noted_with_its_speed_and_draws_no_random_number(tmp_path: Path):
    """Results must not depend on the check."""
    found = checked(tmp_path, 3)

    assert [(each["error"], each["same_random"]) for each in found] == [(None, True)] * 3
    (event,) = [each for each in events.read(RunDir(tmp_path).events) if each["event"] == "links"]
    assert (event["backend"], event["ranks"], event["bytes"]) == ("gloo", 3, 4 * 2**20)
    # In a ring each of R ranks sends 2 (R - 1) / R of the bytes.
    assert event["gb_per_s"] == pytest.approx(4 * 2**20 * 4 / 3 / event["seconds"] / 1e9, rel=0.01, abs=0.001)


def test_a_wrong_sum_ends_the_ranks_as_a_fault_of_the_machine(tmp_path: Path):
    """Rank 1 of 2 gives 9·i and not 2·i: all but place 0 of 1,024 are wrong, on both."""
    found = checked(tmp_path, 2, liar=1)

    sentence = f"on {platform.node()} got 1,023 wrong numbers in a sum of 1,024 over all ranks"
    assert found[0]["error"] == ["infrastructure", f"rank 0 {sentence}"]
    assert found[1]["error"] is not None


def test_one_rank_has_no_links(tmp_path: Path):
    """Nothing is summed, nothing noted."""
    found = checked(tmp_path, 1)

    assert found[0]["error"] is None
    assert events.read(RunDir(tmp_path).events) == []
