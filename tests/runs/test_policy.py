"""Which attempts are followed by another one, after how long, and with which code a run ends."""

import json

import pytest

from launcher.errors import Exit
from launcher.runs import attempts, policy
from launcher.runs.checkpoints import MANIFEST, SCHEMA, manifest_text
from launcher.runs.paths import RunDir
from launcher.runs.policy import Retry, Stop, Tried, decide

FAULT, HANG = "infrastructure", "hang"


def tried(*spans, cause=FAULT):
    """Attempts by (step before, step after), all ended by one cause."""
    return [Tried(cause, before, after) for before, after in spans]


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        ("finished", 0), ("stopped", 85), ("data", 2), ("environment", 4), ("disk_full", 4),
        ("out_of_memory", 6), ("not_finite", 6), ("code", 6), ("a word of a later version", 6),
    ],
)  # fmt: skip
def test_what_would_end_in_the_same_way_again_is_not_tried_again(cause, code):
    """Even after progress: a bad row, a missing package or a bug does not go away by itself."""
    assert decide(tried((0, 40), cause=cause)) == Stop(code, None)


@pytest.mark.parametrize("cause", [FAULT, HANG])
def test_a_fault_of_the_machine_is_tried_again_after_longer_and_longer_waits(cause):
    """1, 2, 4 … seconds and never more than 60, as long as each attempt saves something new."""
    waits = []
    for number in range(1, 11):
        decision = decide(tried(*((step, step + 1) for step in range(number)), cause=cause))
        waits.append(decision.after_s)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_three_attempts_in_a_row_without_progress_are_enough():
    """93, with a reason; two are not, and one that saved something in between starts the count anew."""
    assert decide(tried((40, 40))) == Retry(1)
    assert decide(tried((40, 40), (40, 40))) == Retry(2)
    assert decide(tried((0, 40), (40, 40), (40, 40))) == Retry(4)
    assert decide(tried((40, 40), (40, 40), (40, 41), (41, 41))) == Retry(8)
    assert decide(tried((0, 40), (40, 40), (40, 40), (40, 40))) == Stop(93, "no progress in 3 attempts in a row")


def test_a_run_starts_again_as_often_as_it_may():
    """86: there was progress each time, so the same command may go on."""
    spans = [(step, step + 1) for step in range(4)]
    assert isinstance(decide(tried(*spans[:3]), max_requeues=3), Retry)
    stop = decide(tried(*spans), max_requeues=3)
    assert stop == Stop(86, "started again 3 times, as often as `launch.max_requeues` allows")
    none = decide(tried((0, 0)), max_requeues=0)
    assert none == Stop(86, "`launch.max_requeues` is 0: it does not start again by itself")


def test_after_running_out_of_memory_a_smaller_split_is_tried_at_once():
    """The change, not the time that passes, is what helps; it is no requeue, so the limit says nothing about it."""
    spent = tried((0, 0), cause="out_of_memory")
    assert decide(spent, max_requeues=0, smaller=True) == Retry(0)
    assert decide(spent) == Stop(6, None)


def test_a_scheduler_takes_turns_and_a_person_does_not():
    """The same request to stop: preempted, the run goes on by itself; but not for ever without saving anything."""
    saved = tried((0, 3), cause="stopped")
    assert decide(saved) == Stop(85, None)
    assert decide(saved, preemptible=True) == Retry(0)
    assert decide(tried(*[(3, 3)] * 3, cause="stopped"), preemptible=True).code == 93


# ── from files ──────────────────────────────────────────────────────────────────────────────────────────────────────


def checkpoint(run_dir, step):
    """A complete checkpoint as small as one can be."""
    folder = run_dir.checkpoints / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"1")
    files = {"weights": {"size": 1, "sha256": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"}}
    (folder / MANIFEST).write_text(manifest_text({"schema": SCHEMA, "step": step, "files": files}))


def ended(run_dir, cause, before, after, asked_by="policy"):
    attempt = attempts.starts_from(run_dir, attempts.begin(run_dir, asked_by), before)
    attempts.end(run_dir, attempt, 86, "", cause=cause, to_step=after)
    return attempt.number


def note(run_dir, number, rank, cause, time=1.0):
    facts = {"code": 1, "cause": cause, "error": None, "hint": None, "time": time, "log": None}
    run_dir.rank_exit(number, rank).write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        ("finished", Exit.DONE), ("stopped", Exit.SAVED_AND_STOPPED), (FAULT, Exit.INFRASTRUCTURE), (HANG, Exit.INFRASTRUCTURE),
        ("data", Exit.DO_NOT_REQUEUE), ("code", Exit.DO_NOT_REQUEUE), ("out_of_memory", Exit.DO_NOT_REQUEUE),
    ],
)  # fmt: skip
def test_a_batch_script_reads_from_the_files_whether_to_queue_again(cause, code, tmp_path):
    """0, 85, 86 or 93, and nothing else: the script has no other case."""
    run_dir = RunDir(tmp_path)
    assert policy.verdict(run_dir, ended(run_dir, cause, 0, 5, "person")) == code


def test_only_attempts_since_a_person_asked_count(tmp_path):
    """Two in vain, then a person starts it again: the third is the first of another three."""
    run_dir = RunDir(tmp_path)
    ended(run_dir, FAULT, 5, 5, "person")
    assert policy.verdict(run_dir, ended(run_dir, FAULT, 5, 5)) == 86
    assert policy.verdict(run_dir, ended(run_dir, FAULT, 5, 5, "person")) == 86
    ended(run_dir, FAULT, 5, 5)
    assert policy.verdict(run_dir, ended(run_dir, FAULT, 5, 5)) == 93


def test_the_limit_of_the_plan_ends_the_turns(tmp_path):
    """93 and not 86: a script that queues on 86 would go on for ever."""
    run_dir = RunDir(tmp_path)
    run_dir.plan.write_text(json.dumps({"restart": {"max_requeues": 1}}))
    assert policy.verdict(run_dir, ended(run_dir, "stopped", 0, 1, "person")) == 85
    assert policy.verdict(run_dir, ended(run_dir, FAULT, 1, 2)) == 93


def test_an_attempt_that_nobody_described_is_judged_by_its_notes_and_by_what_is_saved(tmp_path):
    """A node that was lost takes the launcher with it."""
    run_dir = RunDir(tmp_path)
    number = attempts.starts_from(run_dir, attempts.begin(run_dir), 0).number
    assert policy.verdict(run_dir, number) == 86
    note(run_dir, number, 0, "stopped")
    assert policy.verdict(run_dir, number) == 85
    note(run_dir, number, 1, "code", time=0.5)
    assert policy.verdict(run_dir, number) == 93


def test_the_newest_complete_checkpoint_is_what_counts_as_progress(tmp_path):
    """A folder without a manifest is none."""
    run_dir = RunDir(tmp_path)
    assert policy.committed_step(run_dir) == 0
    checkpoint(run_dir, 20)
    (run_dir.checkpoints / "checkpoint-40").mkdir()
    assert policy.committed_step(run_dir) == 20
