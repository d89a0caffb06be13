"""Rows, tokens and steps before anything has been counted, and after."""

import json

import pytest

from launcher.plan.facts import gather
from launcher.plan.make import make_plan
from tests.support import planning


def test_steps_follow_from_rows_batch_and_epochs(tmp_path):
    """100 rows, 16 per step: 7 steps per epoch, 21 in 3 epochs. Filler rows complete the last batch."""
    estimate = planning.plan(tmp_path).estimate
    assert (estimate.rows, estimate.steps, estimate.exact) == (100, 21, False)


def test_held_out_rows_are_not_trained(tmp_path):
    """A tenth of 100 rows: 90 are left, 6 steps per epoch."""
    held_out = "data.eval_datasets=[{label: held_out, from: all, fraction: 0.1}]"
    estimate = planning.plan(tmp_path, held_out, "training.num_train_epochs=1").estimate
    assert (estimate.rows, estimate.steps) == (90, 6)


def test_max_rows_bounds_a_source_and_max_steps_the_run(tmp_path):
    """40 rows are 3 steps per epoch; `max_steps` overrides epochs."""
    assert planning.plan(tmp_path, "data.datasets.sums.max_rows=40").estimate.steps == 9
    assert planning.plan(tmp_path, "training.max_steps=5").estimate.steps == 5


def test_packed_rows_are_tokens_over_row_length(tmp_path):
    """Each row of the data has about 7 to 9 tokens by characters / 4; packed rows are their sum over 64, rounded up."""
    estimate = planning.plan(tmp_path, "data.packing=true", "data.max_length=64").estimate
    assert estimate.rows == -(-estimate.tokens // 64)
    assert 500 < estimate.tokens < 1000


def test_prepared_counts_replace_the_estimates(tmp_path):
    """After `prepare`, figures are exact and no longer marked."""
    loaded = planning.recipe(tmp_path)
    counted = {"sets": {"train": {"rows": 96, "tokens": 700, "sources": {"sums": {"rows": 100}}}}}
    (tmp_path / "data.json").write_text(json.dumps(counted))
    facts = gather(loaded, planning.CPU, data_json=tmp_path / "data.json")
    estimate = make_plan(loaded, planning.CPU, facts).plan.estimate
    assert (estimate.rows, estimate.tokens, estimate.steps, estimate.exact) == (96, 700, 18, True)


COUNTED = {
    "sets": {"train": {"rows": 100, "tokens": 9000}},
    "mixture": {
        "sources": {"a": {"asked": None, "epochs": 2.0, "tokens": 1}, "b": {"asked": None, "epochs": 0.5, "tokens": 1}}
    },
    "sources": {
        "a": {"rows": 3, "held_out": 0, "lengths": {"max": 900}, "histogram": [[0, 20, 2], [20, 40, 0], [40, 60, 1]]},
        "b": {"rows": 4, "held_out": 0, "lengths": {"max": 15}, "histogram": [[0, 20, 4]]},
        "held_out": {"rows": 4, "held_out": 0, "lengths": {"max": 40}, "histogram": [[0, 41, 4]]},
    },
}
"""What `prepare` writes of two sources that are trained and one that is only measured."""


@pytest.mark.parametrize(
    ("max_length", "longest", "lengths"),
    [
        (2048, 900, ((10, 6.0), (50, 2.0))),
        (45, 45, ((10, 6.0), (45, 2.0))),
    ],
)
def test_lengths_are_those_of_what_is_trained(tmp_path, max_length, longest, lengths):
    """Rows about 10 long: 2 of `a` twice and 4 of `b` half a time. The longest row is exact, and cut at `max_length`."""
    loaded = planning.recipe(tmp_path, sets=[f"data.max_length={max_length}"])
    (tmp_path / "data.json").write_text(json.dumps(COUNTED))
    facts = gather(loaded, planning.CPU, data_json=tmp_path / "data.json")
    found = make_plan(loaded, planning.CPU, facts).plan.estimate
    assert (found.longest, found.lengths) == (longest, lengths)


def test_no_checkpoint_before_the_end_is_said(tmp_path):
    """21 steps and the default of 200: a kill would lose everything."""
    warnings = planning.plan(tmp_path).warnings
    assert any("no checkpoint before the end: save_steps is 200, about 21 steps" in warning for warning in warnings)
