"""The state of a run follows from its files and its lock."""

import json

from launcher.runs import attempts, events, lock, state
from launcher.runs.paths import RunDir


def note(run_dir, who, code, cause, time, error=None):
    path = run_dir.rank_exit(1, who)
    path.write_text(json.dumps({"code": code, "cause": cause, "error": error, "hint": None, "time": time, "log": None}))


def test_the_first_failure_by_time_is_the_cause(tmp_path):
    """When rank 1 fails, rank 0 fails a moment later with a broken connection: that is noise."""
    run_dir = RunDir(tmp_path)
    attempts.begin(run_dir)
    note(run_dir, 0, 93, "code", 20.0, "Connection reset by peer")
    note(run_dir, 1, 93, "code", 10.0, "IndexError: index out of range")
    note(run_dir, 2, 0, "finished", 5.0)
    notes = attempts.exits(run_dir, 1)
    assert [each.who for each in notes] == ["2", "1", "0"]
    assert attempts.first_failure(notes).error == "IndexError: index out of range"
    assert state.derive(run_dir) == state.State("failed", "IndexError: index out of range")


def test_a_run_is_queued_then_running_then_what_its_last_attempt_says(tmp_path):
    """Nothing stores the state, so nothing can be out of date."""
    run_dir = RunDir(tmp_path)
    assert state.derive(run_dir).name == "queued"
    with lock.hold(run_dir):
        attempt = attempts.begin(run_dir)
        assert state.derive(run_dir) == state.State("running")
        run_dir.stop_request.touch()
        assert state.derive(run_dir) == state.State("running", "stopping")
    assert state.derive(run_dir) == state.State("stopped", "killed")
    note(run_dir, 0, 85, "stopped", 1.0)
    assert state.derive(run_dir) == state.State("stopped", "launcher killed; saved")
    attempts.end(run_dir, attempt, 85)
    assert state.derive(run_dir) == state.State("stopped", "nothing saved yet")
    (run_dir.checkpoints / "checkpoint-3").mkdir(parents=True)
    assert state.derive(run_dir) == state.State("stopped", "saved")
    attempts.end(run_dir, attempt, 6, "rank 0 failed")
    assert state.derive(run_dir) == state.State("failed", "rank 0 failed")
    run_dir.done.touch()
    assert state.derive(run_dir) == state.State("done")
    attempts.end(run_dir, attempt, 0)
    run_dir.done.unlink()  # `--allow-change` makes a finished run go on
    assert state.derive(run_dir) == state.State("stopped", "done before, to go on")


def test_attempts_are_numbered_on_and_ignore_foreign_folders(tmp_path):
    """Attempt 10 follows 9; a stray folder is no attempt."""
    run_dir = RunDir(tmp_path)
    for name in ("9", "2", "old", "٣"):
        (tmp_path / "attempts" / name).mkdir(parents=True)
    assert attempts.begin(run_dir).number == 10
    assert attempts.numbers(run_dir) == (2, 9, 10)


def test_a_run_whose_data_was_made_and_nothing_else_is_prepared(tmp_path):
    """One step or one measurement makes it a run with history."""
    run_dir = RunDir(tmp_path)
    attempts.end(run_dir, attempts.begin(run_dir), 0)
    assert state.derive(run_dir) == state.State("prepared")
    assert not state.trained(run_dir)
    events.append(run_dir.events, "progress", stage="prepare", what="chat: tokenising", share=0.5)
    assert not state.trained(run_dir)
    events.append(run_dir.events, "eval", step=0, dataset="held_out", loss=3.0)
    assert state.trained(run_dir)
    assert state.derive(run_dir).name == "stopped"
