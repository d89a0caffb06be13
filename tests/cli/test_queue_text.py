"""Runs on SLURM as `status` shows them: whole screens."""

import json
import subprocess
import sys
import time

import pytest

from launcher.cli import queue_text, screens
from launcher.cli.look import Look
from launcher.executors.slurm.standing import RunJob, Standing
from launcher.executors.slurm.tracker import Seen
from launcher.render import slurm_words
from launcher.runs import record
from launcher.runs.attempts import Attempt, Turn
from launcher.runs.goodput import measure
from launcher.runs.measures import measures
from launcher.runs.paths import RunDir
from launcher.runs.progress import progress
from launcher.runs.state import State
from launcher.runs.submissions import Submission
from tests.support import golden

NOW = 1_800_000_000.0
"""Fri 2027-01-15 08:00 in UTC."""
HOUR = 3600.0


@pytest.fixture(autouse=True)
def _home(monkeypatch, tmp_path):
    monkeypatch.setenv("LAUNCHER_RUNS", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def job(number, stage, seen, *after, where="alpha:gpu"):
    return RunJob(Submission(f"key{number}", stage, 0.0, where, job_id=str(number), after=after), seen)


def trained(attempt, began, first, last, *, total=1602):
    """An attempt that loads for a minute and trains for 57 s a step."""
    found = [
        {"event": "attempt", "time": began, "attempt": attempt},
        {"event": "stage", "time": began, "stage": "train", "state": "started"},
        {"event": "start", "time": began + 60, "attempt": attempt, "step": first, "max_steps": total},
    ]
    for step in range(first + 1, last + 1):
        at = began + 60 + 57 * (step - first)
        found.append({"event": "step", "time": at, "attempt": attempt, "step": step, "loss": 2 - step / 1602, "seconds": 57.0})  # fmt: skip
    return found


def look(tmp_path, name, state, slurm, found=(), *tried):
    run_dir = RunDir(tmp_path / name)
    run_dir.root.mkdir()
    return Look(run_dir, state, progress(found), tried, NOW, measure(found, tried), slurm, measures=measures(found))


def theses(tmp_path):
    """741 steps in a turn of 11 h 45 min, 2 h in the queue, and 170 steps since."""
    began, again = NOW - 18 * HOUR, NOW - 4 * HOUR
    chain = (
        job(88121, "train", Seen("88121", "RUNNING", starts=again, nodes="a[07,12]", seconds_left=28_860)),
        job(88122, "export", Seen("88122", "PENDING", "Dependency"), "88121"),
    )
    tried = (
        Attempt(1, "a07", 1, began, began + 12 * HOUR, 85, cause="stopped", to_step=741, turn=Turn("88121", 1), left_for="time limit"),
        Attempt(2, "a07", 1, again, asked_by="policy", turn=Turn("88121", 2)),
    )  # fmt: skip
    found = [*trained(1, began, 0, 741), *trained(2, again, 741, 911)]
    return look(tmp_path, "theses", State("running"), Standing(State("running"), chain, chain[0]), found, *tried)


def queued(tmp_path, name="chem-70b", reason="Priority", starts=NOW + 94 * HOUR):
    waits = job(4417, "train", Seen("4417", "PENDING", reason, starts), where="beta:long")
    state = State("queued", reason)
    return look(tmp_path, name, state, Standing(state, (waits,), waits))


def test_golden_table_with_runs_on_slurm(tmp_path):
    """Where, which job, what it waits for and when it is expected to start; below a sudden end, why and what to type."""
    lost = State("failed", "train: a node failed, and SLURM did not queue the job again (job 4402)")
    gone = job(4402, "train", Seen("4402", "NODE_FAIL"), where="beta:long")
    todo = ("launcher logs de-lora --job", "launcher run de-lora (goes on)")
    stopped = State("stopped", "cancelled, saved 741")
    runs = [
        queued(tmp_path),
        look(tmp_path, "de-lora", lost, Standing(lost, (gone,), todo=todo)),
        look(tmp_path, "other", stopped, Standing(stopped, (job(7, "train", Seen("7", "CANCELLED")),))),
        theses(tmp_path),
    ]
    golden.check("cli/status-slurm.txt", screens.runs_table(runs) + "\n")


def test_golden_screen_of_a_run_in_its_second_turn(tmp_path):
    """The time in the queue is told and not counted: 911 × 57 s are 98 % of the 14 h 42 min of both turns."""
    golden.check("cli/status-slurm-running.txt", screens.run_screen(theses(tmp_path)) + "\n")


def test_golden_screen_of_a_run_that_waits(tmp_path):
    golden.check("cli/status-slurm-queued.txt", screens.run_screen(queued(tmp_path)) + "\n")


def test_golden_table_without_slurm(tmp_path):
    """One line for all runs says why less is known."""
    state = State("running", "by its files")
    now = job(88121, "train", None)
    away = Standing(state, (now,), now, "slurmctld does not answer: Connection refused")
    runs = [look(tmp_path, "theses", state, away), look(tmp_path, "other", State("queued", "by its files"), away)]
    golden.check("cli/status-slurm-away.txt", screens.runs_table(runs) + "\n")
    assert screens.run_screen(runs[0]).splitlines()[1:3] == [
        "slurm    slurmctld does not answer: Connection refused; this is what the files of the run say",
        "jobs     88121  train  not known",
    ]


def test_a_run_that_was_never_submitted_needs_nothing_of_slurm(tmp_path):
    """`launcher status` on a laptop stays as quick as it was."""
    run_dir = RunDir(tmp_path / "local")
    run_dir.root.mkdir()
    record.write(run_dir, record.new("local", {}))
    program = "import sys; from launcher.cli.main import main; main(['status']); main(['status', 'local']); "
    program += "sys.exit(any(name.startswith('launcher.executors') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 0


def test_json_carries_the_jobs(tmp_path):
    shown = screens.as_json(theses(tmp_path))
    assert json.loads(json.dumps(shown)) == shown
    first, second = shown["slurm"]["jobs"]
    assert (first["id"], first["state"], first["nodes"], first["seconds_left"]) == (
        "88121",
        "RUNNING",
        "a[07,12]",
        28_860,
    )
    assert (second["stage"], second["reason"], second["after"]) == ("export", "Dependency", ["88121"])
    assert shown["attempts"][1]["turn"] == {"job": "88121", "number": 2}
    assert shown["goodput"]["queued_s"] == 2 * HOUR


@pytest.mark.parametrize(
    ("hours", "shown"), [(2, "10:00"), (20, "Sat 04:00"), (94, "Tue 06:00"), (-20, "Thu 12:00"), (400, "2027-02-01")]
)
def test_a_time_is_as_short_as_it_is_clear(hours, shown):
    """From Friday, 8 o'clock."""
    assert queue_text.clock(NOW + hours * HOUR, NOW) == shown


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        ("Priority", "jobs of higher priority come first"),
        ("ReqNodeNotAvail, UnavailableNodes:a[1-4]", "nodes that it needs are not available, perhaps before a maintenance"),
        ("AssocGrpGRES", "a limit of the account or the quality of service is reached"),
        ("QOSMaxJobsPerUserLimit", "a limit of the account or the quality of service is reached"),
        ("launch failed requeued held", "SLURM could not start it, and holds it"),
        ("SomethingNew", None),
    ],
)  # fmt: skip
def test_what_a_reason_means(reason, meaning):
    """As SLURM prints them; what it may print one day is left as it is."""
    assert slurm_words.wait(reason) == meaning
