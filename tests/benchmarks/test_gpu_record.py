"""A result file is whole at any moment: what is known is written, what is lost is named."""

import json

from benchmarks.gpu.record import Record, Row

ROWS = [Row("memory", name, {"rows": number}) for number, name in enumerate(("first", "second", "third"))]


def planned(tmp_path):
    record = Record(tmp_path / "deep" / "gpu.jsonl")
    record.begin({"smoke": True})
    record.plan(ROWS)
    return record


def test_a_row_is_in_the_file_when_add_returns(tmp_path):
    """The process may be killed at any time after."""
    record = planned(tmp_path)
    record.add(ROWS[0], smoke=True, result={"loss_last": 1.0})

    last = json.loads(record.path.read_text().splitlines()[-1])
    assert last["result"] == {"loss_last": 1.0}
    assert last["smoke"] is True


def test_what_is_missing_is_known_after_a_restart(tmp_path):
    """The next process goes on at the first row without a line."""
    record = planned(tmp_path)
    record.add(ROWS[0], smoke=True, skipped="no kernel")
    again = Record(record.path)
    again.plan(ROWS)  # changes nothing: it is written once

    assert [row.variant for row in again.missing()] == ["second", "third"]
    assert [row.config for row in again.missing()] == [{"rows": 1}, {"rows": 2}]


def test_figures_of_earlier_rows_are_found_by_name(tmp_path):
    """Ratios are to rows of the same run; a row that failed has no figures."""
    record = planned(tmp_path)
    record.add(ROWS[0], smoke=False, result={"real_tokens_per_s": 10.0})
    record.add(ROWS[1], smoke=False, error={"kind": "out of memory"})

    assert record.result("memory", "first") == {"real_tokens_per_s": 10.0}
    assert record.result("memory", "second") is None
    assert record.result("ladder", "first") is None
