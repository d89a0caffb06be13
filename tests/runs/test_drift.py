"""Data that changed after it was prepared is noticed, and only that."""

import os

from launcher.runs import drift


def test_changed_contents_are_noticed_and_a_touched_or_moved_file_is_not(tmp_path):
    """Size alone misses an edited digit; the time of change alone cries wolf after a copy."""
    file = tmp_path / "train.jsonl"
    file.write_text('{"text": "1"}\n')
    known = drift.fingerprint({"data.train": str(file), "model": "/models/x"})
    assert list(known) == ["train"]

    os.utime(file, ns=(1, 1))
    assert drift.changes(known, {"data.train": str(file)}) == ()

    file.write_text('{"text": "2"}\n')
    assert drift.changes(known, {"data.train": str(file)}) == (f"train: {file} has other contents of the same size",)

    file.write_text('{"text": "22"}\n')
    assert drift.changes(known, {"data.train": [str(file)]}) == (f"train: {file} was 14 bytes, is 15",)


def test_a_new_file_under_a_glob_is_a_change_and_a_missing_one_is_not(tmp_path):
    """A run goes on without its sources, whose rows lie in the run directory; it must not mix in others."""
    (tmp_path / "a.jsonl").write_text("1\n")
    known = drift.fingerprint({"data.train": [str(tmp_path / "a.jsonl")]})
    (tmp_path / "b.jsonl").write_text("2\n")
    both = {"data.train": [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]}
    assert drift.changes(known, both) == (f"train: {tmp_path / 'b.jsonl'} is new",)

    (tmp_path / "a.jsonl").unlink()
    assert drift.changes(known, {"data.train": str(tmp_path / "a.jsonl")}) == ()
    assert drift.missing(both) == (("train", tmp_path / "a.jsonl"),)
