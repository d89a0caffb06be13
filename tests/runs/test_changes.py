"""What was allowed to change since a checkpoint, and what the run was before."""

import dataclasses

from launcher.runs import changes, record


def test_the_difference_names_each_key_with_both_values():
    """The person decides on `--allow-change` from this list."""
    found = changes.difference({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "d": 4})
    assert found == [("b", 2, 5), ("c", 3, None), ("d", None, 4)]
    assert changes.listed(found) == "       b: 2 → 5\n       c: 3 → not set\n       d: not set → 4"


def test_changes_count_for_the_checkpoints_that_were_there():
    """A permission is no blank cheque: what was saved under the new settings is compared with the new settings."""
    known = record.new("tiny", {"lr": 1, "seed": 1})
    known = record.allow(known, {"lr": 2, "seed": 1}, [("lr", 1, 2)], step=100)
    known = record.allow(known, {"lr": 2}, [("seed", 1, None)], step=200)
    known = record.allow(known, {"lr": 3, "wd": 1}, [("lr", 2, 3), ("wd", None, 1)], step=200)

    assert changes.since(100, known.changes) == [("lr", 1, 2), ("seed", 1, None), ("lr", 2, 3), ("wd", None, 1)]
    assert changes.since(150, known.changes) == [("seed", 1, None), ("lr", 2, 3), ("wd", None, 1)]
    assert changes.since(201, known.changes) == []
    assert changes.undone(known.identity, changes.since(100, known.changes)) == {"lr": 1, "seed": 1}
    assert changes.undone(known.identity, changes.since(150, known.changes)) == {"lr": 2, "seed": 1}


def test_an_older_record_without_steps_is_believed():
    """It was written by a launcher that did not note them."""
    known = dataclasses.replace(record.new("tiny", {}), changes=({"time": 1.0, "key": "lr", "old": 1, "new": 2},))
    assert changes.since(7, known.changes) == [("lr", 1, 2)]


def test_allowed_data_is_no_part_of_the_identity():
    """It is noted beside it."""
    noted = [(changes.DATA_FILES, "as prepared", "prepared anew")]
    assert changes.undone({"lr": 1}, noted) == {"lr": 1}
