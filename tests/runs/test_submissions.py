"""The ledger of jobs: kept whole, one entry per submission, readable by whoever comes later."""

import shutil
import threading

from launcher.runs import submissions
from launcher.runs.paths import RunDir
from launcher.runs.submissions import Submission


def test_an_entry_is_there_before_slurm_is_asked_and_takes_its_answer(tmp_path):
    run_dir = RunDir(tmp_path)
    asked = submissions.new("train", "alpha:gpu", after=["7"])
    submissions.put(run_dir, asked)
    assert submissions.read(run_dir) == (asked,)
    assert asked.job_id is None
    submissions.put(run_dir, Submission(**{**vars(asked), "job_id": "8"}))
    (known,) = submissions.read(run_dir)
    assert (known.job_id, known.after, known.alive) == ("8", ("7",), True)


def test_what_has_ended_is_not_alive(tmp_path):
    run_dir = RunDir(tmp_path)
    first, second = submissions.new("prepare", "a:b"), submissions.new("train", "a:b")
    for each in (first, second):
        submissions.put(run_dir, each)
    submissions.ended(run_dir, first, "COMPLETED")
    assert submissions.alive(run_dir) == (second,)


def test_keys_are_never_the_same(tmp_path):
    assert len({submissions.new("train", "a:b").key for _ in range(1000)}) == 1000


def test_two_submit_one_after_the_other(tmp_path):
    """Each adds an entry to what it has read; without the lock one of the two would be lost."""
    run_dir = RunDir(tmp_path)

    def submit():
        for _ in range(10):
            with submissions.hold(run_dir):
                submissions.put(run_dir, submissions.new("train", "a:b"))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(submissions.read(run_dir)) == 40


def test_a_copy_of_a_run_has_none_of_its_jobs_and_a_renamed_run_has_them(tmp_path):
    """`launcher stop` of the copy would cancel the job of the original."""
    run_dir = RunDir(tmp_path / "one")
    run_dir.root.mkdir()
    submissions.put(run_dir, submissions.new("train", "a:b"))
    shutil.copytree(run_dir.root, tmp_path / "copy")
    assert submissions.read(RunDir(tmp_path / "copy")) == ()
    run_dir.root.rename(tmp_path / "two")
    assert len(submissions.read(RunDir(tmp_path / "two"))) == 1
