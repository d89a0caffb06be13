"""Where a run stands when SLURM's word and the run's own files are put together; nobody holds a lock in these runs."""

import pytest

from launcher.errors import Exit
from launcher.executors.slurm.standing import standing
from launcher.executors.slurm.tracker import Seen, Survey
from launcher.runs import attempts, record, stopping, submissions
from launcher.runs.attempts import Turn
from launcher.runs.paths import RunDir
from launcher.runs.submissions import Submission

LATER = 4e9
"""Unix seconds: every attempt of these tests has begun before."""


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("LAUNCHER_RUNS", str(tmp_path))
    made = RunDir(tmp_path / "theses")
    made.root.mkdir()
    record.write(made, record.new("theses", {}))
    return made


def submitted(run_dir, *stages):
    """Jobs 1, 2, … of these stages, each behind the one before it."""
    for number, stage in enumerate(stages, 1):
        after = (str(number - 1),) if number > 1 else ()
        submissions.put(run_dir, Submission(f"key{number}", stage, 1.0, "alpha:gpu", job_id=str(number), after=after))


def tried(run_dir, job, *, code=None, error=None, turn=1):
    """An attempt in this job; `code` is how it ended."""
    begun = attempts.begin(run_dir, turn=Turn(str(job), turn))
    if code is not None:
        attempts.end(run_dir, begun, code, error)


def said(*seen):
    """What SLURM says of jobs 1, 2, …: state, then reason."""
    return Survey({str(n): Seen(str(n), *each.split(" ", 1)) for n, each in enumerate(seen, 1)})


def stands(run_dir, *seen):
    found = standing(run_dir, said(*seen))
    return found.state.name, found.state.reason


def test_a_job_that_runs_is_a_run_that_runs_even_where_its_lock_looks_free(run_dir):
    """On some file systems a lock of another machine is not seen."""
    submitted(run_dir, "train")
    tried(run_dir, 1)
    assert stands(run_dir, "RUNNING") == ("running", None)
    run_dir.stop_request.touch()
    assert stands(run_dir, "RUNNING") == ("running", "stopping")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("RUNNING", "starting"),
        ("CONFIGURING", "its nodes start up"),
        ("SUSPENDED", "suspended by SLURM"),
        ("COMPLETING", "its job ends"),
    ],
)
def test_a_job_with_nodes_before_the_launcher_in_it_begins(run_dir, state, reason):
    submitted(run_dir, "train")
    assert stands(run_dir, state) == ("running", reason)


def test_the_turn_after_a_crash_is_starting_although_the_attempt_before_it_has_no_end(run_dir):
    """SLURM queued the job again when a node failed; the attempt in it died without a word."""
    submitted(run_dir, "train")
    tried(run_dir, 1)
    again = Survey({"1": Seen("1", "RUNNING", starts=LATER)})
    assert standing(run_dir, again).state.reason == "starting"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (Exit.SAVED_AND_STOPPED, ("running", "its turn ends")),
        (Exit.INFRASTRUCTURE, ("running", "its turn ends")),
        (Exit.RUN_FAILED, ("failed", "rank 0 failed")),
    ],
)
def test_the_last_seconds_of_a_job_are_what_comes_of_them(run_dir, code, expected):
    submitted(run_dir, "train")
    tried(run_dir, 1, code=code, error="rank 0 failed")
    assert stands(run_dir, "COMPLETING") == expected


def test_between_two_turns_it_is_queued(run_dir):
    submitted(run_dir, "train")
    tried(run_dir, 1, code=Exit.SAVED_AND_STOPPED)
    assert stands(run_dir, "PENDING BeginTime") == ("queued", "BeginTime")


def test_of_several_waiting_jobs_the_one_that_waits_for_nodes_counts(run_dir):
    submitted(run_dir, "prepare", "train", "export")
    found = standing(run_dir, said("COMPLETED", "PENDING Priority", "PENDING Dependency"))
    assert (found.state.reason, found.now.asked.stage) == ("Priority", "train")


@pytest.mark.parametrize("reason", ["JobHeldUser", "JobHeldAdmin", "launch failed requeued held"])
def test_what_is_held_names_the_command_that_lets_it_go(run_dir, reason):
    submitted(run_dir, "train")
    found = standing(run_dir, said(f"PENDING {reason}"))
    assert (found.state.name, found.todo) == ("queued", ("scontrol release 1 (lets it go)",))


def test_a_job_that_never_starts_is_a_failure_with_two_commands(run_dir):
    """Where the site does not cancel it by itself."""
    submitted(run_dir, "prepare", "train")
    tried(run_dir, 1, code=Exit.USAGE, error="row 3 is no JSON")
    found = standing(run_dir, said("FAILED NonZeroExitCode", "PENDING DependencyNeverSatisfied"))
    assert found.state.name == "failed"
    assert found.todo == ("launcher stop theses (takes it out of the queue)", "launcher run theses (goes on)")


def test_the_cause_of_a_chain_that_broke_is_the_job_that_failed(run_dir):
    """Not one of those that SLURM cancelled behind it."""
    submitted(run_dir, "prepare", "train", "export")
    tried(run_dir, 1, code=Exit.USAGE, error="row 3 is no JSON")
    never = "CANCELLED DependencyNeverSatisfied"
    assert stands(run_dir, "FAILED NonZeroExitCode", never, never) == ("failed", "row 3 is no JSON")


def test_a_chain_that_broke_before_anything_ran(run_dir):
    submitted(run_dir, "prepare", "train")
    assert stands(run_dir, "FAILED JobLaunchFailure", "CANCELLED DependencyNeverSatisfied") == (
        "failed",
        "prepare: SLURM could not start the job on its node (job 1)",
    )


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("BOOT_FAIL", "its nodes did not start up"),
        ("DEADLINE", "SLURM gave it up"),
        ("FAILED", "the launcher in its job was killed"),
        ("NODE_FAIL", "a node failed"),
        ("OUT_OF_MEMORY", "more memory of a node"),
        ("PREEMPTED", "given to another job"),
        ("TIMEOUT", "its time limit ended the job"),
        ("UNKNOWN", "SLURM has forgotten the job"),
    ],
)
def test_an_end_without_a_word_of_the_launcher_is_slurms_word(run_dir, state, word):
    """With the log of the job and the command that goes on."""
    submitted(run_dir, "train")
    tried(run_dir, 1)
    found = standing(run_dir, said(state))
    assert found.state.name == "failed"
    assert word in found.state.reason
    assert found.state.reason.endswith("(job 1)")
    assert found.todo == ("launcher logs theses --job", "launcher run theses (goes on)")


def test_what_the_launcher_lived_to_say_comes_before_slurms_word(run_dir):
    submitted(run_dir, "train")
    tried(run_dir, 1, code=Exit.RUN_FAILED, error="rank 3 failed: KeyError: text")
    assert stands(run_dir, "OUT_OF_MEMORY") == ("failed", "rank 3 failed: KeyError: text")


def test_who_cancelled_it(run_dir):
    """`launcher stop` leaves its wish, scancel does not."""
    submitted(run_dir, "train")
    assert stands(run_dir, "CANCELLED") == ("stopped", "cancelled with scancel before it started")
    tried(run_dir, 1)
    assert stands(run_dir, "CANCELLED") == ("stopped", "cancelled with scancel, nothing saved")
    (run_dir.checkpoints / "checkpoint-740").mkdir(parents=True)
    assert stands(run_dir, "CANCELLED") == ("stopped", "cancelled with scancel, saved 740")
    stopping.request(run_dir)
    assert stands(run_dir, "CANCELLED") == ("stopped", "cancelled, saved 740")


def test_a_job_that_found_the_wish_when_it_began_is_no_failure(run_dir):
    """SLURM calls every exit code but 0 a failure."""
    submitted(run_dir, "train")
    stopping.request(run_dir)
    assert stands(run_dir, "FAILED NonZeroExitCode") == ("stopped", "cancelled before it started")


def test_without_slurm_the_files_speak(run_dir):
    """An attempt without an end goes on, as far as anybody can say."""
    submitted(run_dir, "prepare", "train")
    away = Survey(away="slurmctld does not answer")
    found = standing(run_dir, away)
    assert (found.state.name, found.now.asked.job_id, found.away) == ("queued", "1", "slurmctld does not answer")
    tried(run_dir, 1, code=Exit.DONE)
    tried(run_dir, 2)
    found = standing(run_dir, away)
    assert (found.state.name, found.state.reason, found.now.asked.job_id) == ("running", "by its files", "2")


def test_a_run_that_went_on_elsewhere_is_no_longer_what_its_old_jobs_were(run_dir):
    """It was killed on the cluster, copied to one machine, and failed there of something else."""
    submitted(run_dir, "train")
    tried(run_dir, 1)
    attempts.end(run_dir, attempts.begin(run_dir), Exit.RUN_FAILED, "disk full")
    found = standing(run_dir, said("NODE_FAIL"))
    assert (found.state.reason, found.jobs) == ("disk full", ())


def test_a_run_that_is_done_is_done_whatever_slurm_says(run_dir):
    submitted(run_dir, "train")
    run_dir.done.touch()
    assert stands(run_dir, "NODE_FAIL") == ("done", None)


def test_only_the_jobs_submitted_last_count(run_dir):
    """An earlier chain was cancelled and submitted anew."""
    submitted(run_dir, "prepare", "train")
    submissions.put(run_dir, Submission("key3", "train", 2.0, "alpha:gpu", job_id="3"))
    found = standing(run_dir, said("FAILED", "CANCELLED", "PENDING Priority"))
    assert [each.asked.job_id for each in found.jobs] == ["3"]


def test_jobs_that_slurm_did_not_take_were_never_there(run_dir):
    """Refused, or withdrawn with the rest of a chain: what the chain before it has said still holds."""
    submitted(run_dir, "train")
    tried(run_dir, 1, code=Exit.RUN_FAILED, error="rank 3 failed")
    submissions.put(run_dir, Submission("key9", "train", 9.0, "alpha:gpu", over="REFUSED"))
    assert stands(run_dir, "FAILED") == ("failed", "rank 3 failed")


def test_a_run_whose_submission_was_cut_off_has_not_started(run_dir):
    submissions.put(run_dir, Submission("key1", "prepare", 1.0, "alpha:gpu"))
    assert stands(run_dir) == ("queued", "not started")


def test_a_job_that_was_not_needed_does_not_run(run_dir):
    """Seen without SLURM, where the ledger's word is all there is."""
    submitted(run_dir, "train", "export")
    tried(run_dir, 1, code=Exit.RUN_FAILED, error="rank 3 failed")
    for each, word in zip(submissions.read(run_dir), ("FAILED", "NOT_NEEDED"), strict=True):
        submissions.ended(run_dir, each, word)
    found = standing(run_dir, Survey(away="slurmctld does not answer"))
    assert (found.state.name, found.state.reason) == ("failed", "rank 3 failed")
