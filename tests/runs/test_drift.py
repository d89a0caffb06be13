"""Data that changed after it was prepared is noticed, and only that."""

import os

from launcher.runs import drift


def fact(path, sha256):
    return [path.name, path.stat().st_size, sha256]


def test_changed_contents_are_noticed_and_a_touched_file_is_not(tmp_path):
    """Size alone misses an edited digit; the time of change alone cries wolf after a copy."""
    file = tmp_path / "train.jsonl"
    file.write_text("abc")
    # FIPS 180-2, appendix B.1: SHA-256 of "abc".
    known = {"data.train": [fact(file, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")]}
    os.utime(file, ns=(1, 1))
    assert drift.changes(known, {"data.train": str(file), "model": "/models/x"}) == ()

    file.write_text("abd")
    assert drift.changes(known, {"data.train": str(file)}) == (f"{file} has other contents (3 bytes as before)",)

    file.write_text("abcd")
    assert drift.changes(known, {"data.train": [str(file)]}) == (f"{file} had 3 bytes and now has 4",)


def test_a_new_file_under_a_glob_is_a_change_and_a_missing_one_is_not(tmp_path):
    """A run goes on without its sources, whose rows lie in the run directory; it must not mix in others."""
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    second.write_text("2\n")
    known = {"data.train": [["a.jsonl", 2, "0" * 64]]}
    both = {"data.train": [str(first), str(second)]}
    assert drift.changes(known, both) == (f"{second} is new",)
    assert drift.changes(known, {"data.train": str(first)}) == ()
    assert drift.missing(both) == (("data.train", first),)
