"""Trackers get what they should, and whatever they do, the training stays as it is."""

import contextlib
import shutil
import socket
import sqlite3
import threading
import time

import pytest

from launcher.runs import events
from tests.support import tiny, trained, warm
from tests.worker import eval_cases as cases
from tests.worker import tracking_cases

pytestmark = pytest.mark.train
CASE = "tests.worker.eval_cases:"
TRACKING = "tests.worker.tracking_cases:"
PROBLEMS = ["raises at begin", "raises at log", "raises at end", "hangs at begin", "hangs at log", "hangs at end"]


def prepared(tmp_path, **fields):
    run = cases.prepare(tmp_path, cases.made_plan(**fields))
    return run, {"root": str(tmp_path), "fields": fields}


def warnings(run):
    return [event["message"] for event in events.read(run.events) if event["event"] == "warning"]


@pytest.fixture
def silent_server():
    """Accepts every connection and never answers: what a server behind a broken network looks like."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as kept:
        server.settimeout(0.1)

        def accept():
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    kept.enter_context(server.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        stop.set()
        thread.join()


def scalars(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run.tracking / "tensorboard"))
    found.Reload()
    return found


def test_tensorboard_gets_training_evaluation_and_settings(tmp_path):
    """Names are stable: dashboards are built on them. The last evaluation comes after the last step and must not be lost."""
    run, args = prepared(tmp_path, report_to=("tensorboard",))
    losses = warm.run(CASE + "tracked", args).value["losses"]
    found = scalars(run)

    assert {"train/loss", "train/learning_rate", "eval/sums_loss", "eval/sums_exact_match"} <= set(
        found.Tags()["scalars"]
    )
    assert [e.step for e in found.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [e.value for e in found.Scalars("train/loss")] == pytest.approx(losses, abs=1e-6)
    assert [e.step for e in found.Scalars("eval/sums_loss")] == [0, 2, 4, 6]
    settings = found.Tensors("args/text_summary")[0].tensor_proto.string_val[0].decode()
    assert '"plan.batch.global_size": 4' in settings
    assert warnings(run) == []


def test_training_is_equal_bit_for_bit_with_trackers_on_and_off(tmp_path):
    """A good one, six that fail or hang in all places, and one that is not installed."""
    run, args = prepared(tmp_path / "on", report_to=("tensorboard", "mlflow"))
    _, args_off = prepared(tmp_path / "off")
    env = {"MLFLOW_TRACKING_URI": str(tmp_path / "on" / "no-such-scheme:")}
    on = warm.run(CASE + "tracked", {**args, "also": PROBLEMS, "seconds_to_finish": 1.0}, env=env).value
    off = warm.run(CASE + "tracked", args_off).value

    assert (on["losses"], on["weights"]) == (off["losses"], off["weights"])
    assert on["seconds"] < off["seconds"] + 8
    assert {line.partition(" is off: ")[0] for line in warnings(run)} == {
        "tracker `mlflow`",
        *(f"tracker `{problem}`" for problem in PROBLEMS),
    }
    assert len(warnings(run)) == 7
    assert "tracker `raises at begin` is off: SystemExit: no server" in warnings(run)
    assert "tracker `hangs at log` is off: it did not finish within 1 s" in warnings(run)


def test_a_tracker_far_behind_is_given_up(tmp_path):
    """Its queue must not grow for as long as a run lasts."""
    run, args = prepared(tmp_path)
    limits = {"most_waiting": 3, "seconds_to_finish": 60.0}
    result = warm.run(CASE + "tracked", {**args, "also": ["hangs at begin"], **limits}).value

    assert warnings(run) == ["tracker `hangs at begin` is off: it is 3 logs behind"]
    assert result["seconds"] < 30


def test_only_rank_0_reports(tmp_path):
    """Two ranks writing one run would show every value twice."""
    run, args = prepared(tmp_path, ranks=2, report_to=("tensorboard",))
    warm.run(CASE + "tracked", args, ranks=2).value  # noqa: B018 - checks the exit codes

    assert len(list((run.tracking / "tensorboard").iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path):
    """A full or read-only disk for curves is no reason to lose the model."""
    run, args = prepared(tmp_path, report_to=("tensorboard",))
    run.tracking.write_text("in the way")
    warm.run(CASE + "tracked", args).value  # noqa: B018

    assert len(warnings(run)) == 1
    assert "FileExistsError" in warnings(run)[0]


def test_wandb_offline_goes_on_in_the_same_run(tmp_path):
    """The id is the run directory's."""
    pytest.importorskip("wandb", reason="wandb is not among the packages of the development install")
    run, args = prepared(tmp_path, report_to=("wandb",))
    for _ in range(2):
        warm.run(CASE + "tracked", args, env={"WANDB_MODE": "offline"}).value  # noqa: B018
    folders = list((run.tracking / "wandb").glob("offline-run-*"))

    assert warnings(run) == []
    assert {path.name.split("-", 3)[3] for path in folders} == {"run-0001"}


def test_mlflow_goes_on_in_the_same_run(tmp_path):
    """One run with the settings as parameters and each evaluation as a metric, in a store of the run directory."""
    pytest.importorskip("mlflow", reason="mlflow is not among the packages of the development install")
    pytest.importorskip("sqlalchemy", reason="its sqlite store needs sqlalchemy")
    run, args = prepared(tmp_path, report_to=("mlflow",))
    for _ in range(2):
        warm.run(CASE + "tracked", args).value  # noqa: B018
    with contextlib.closing(sqlite3.connect(run.tracking / "mlflow.db")) as store:
        runs = store.execute("select name, status from runs").fetchall()
        steps = store.execute("select step from metrics where key = 'eval_sums_loss' order by timestamp").fetchall()
        size = store.execute("select value from params where key = 'plan.batch.global_size'").fetchall()

    assert warnings(run) == []
    assert runs == [("run-run-0001", "FINISHED")]
    assert [step for (step,) in steps] == [0, 2, 4, 6]
    assert size == [("4",)]


def test_trackio_goes_on_in_the_same_run(tmp_path):
    """Trackio knows runs by name, so the name holds the id."""
    pytest.importorskip("trackio", reason="trackio is not among the packages of the development install")
    run, args = prepared(tmp_path, report_to=("trackio",))
    for _ in range(2):
        warm.run(CASE + "tracked", args).value  # noqa: B018
    with contextlib.closing(sqlite3.connect(run.tracking / "trackio" / "launcher.db")) as store:
        names = store.execute("select distinct run_name from metrics").fetchall()

    assert warnings(run) == []
    assert names == [("run-run-0001",)]


def killed_and_continued(root, tracker, kills, *, wait_for=None, settled_s=0.0, lost=()):
    """A run of twelve steps, saved at 4 and 8, evaluated at 0, 3, 6, 9 and 12; `kills`: after which step, with what saved.
    `lost`: attempts that leave nothing in the tracker's files, only the notes of what they sent."""
    plan = tiny.plan(
        max_steps=12, save_steps=4, eval_steps=3, eval_sources=tiny.held_out("held", 0.2), report_to=(tracker,)
    )
    run = trained.run_dir(root, plan, tiny.messages(40))
    for attempt, (step, saved) in enumerate(kills, 1):
        args = {"run_dir": str(run.root), "step": step, "saved": saved, "told": wait_for, "settled_s": settled_s}
        env = {"LAUNCHER_ATTEMPT": str(attempt), "WANDB_MODE": "offline"}
        killed = warm.run(TRACKING + "killed_rank", args, torchrun=True, env=env)
        assert killed.codes == (-9,), run.rank_log(attempt, 0).read_text()[-2000:]
        if attempt in lost:
            shutil.rmtree(run.tracking / tracker)
        time.sleep(1.0)  # TensorBoard reads its files by second, then by pid as text: 10003 before 9993
    ended = trained.start(run, attempt=len(kills) + 1, env={"WANDB_MODE": "offline"}).wait()
    assert ended.codes == (0,), run.rank_log(len(kills) + 1, 0).read_text()[-2000:]
    assert warnings(run) == []
    return run


def shown(run, tracker):
    """Steps of the training loss and of the evaluation in the tracker's own files; values are those of the run's events."""
    found = tracking_cases.shown(run, tracker)
    losses = {event["step"]: event["loss"] for event in events.read(run.events) if event["event"] == "step"}
    assert [value for _, value in found["loss"]] == pytest.approx([losses[step] for step, _ in found["loss"]], abs=1e-6)
    return {name: [step for step, _ in points] for name, points in found.items()}


EACH_ONCE = {"loss": list(range(1, 13)), "eval": [0, 3, 6, 9, 12]}
KILLS = [(3, None), (7, 4), (10, 8)]
"""Before the first checkpoint, and twice behind one: steps 1 to 3, 5 to 7 and 9, 10 are trained again."""


def test_after_kills_tensorboard_shows_each_step_once(tmp_path):
    """Killed at once, with logs on their way: what was shown is replaced, what was missed is sent."""
    assert shown(killed_and_continued(tmp_path / "run", "tensorboard", KILLS), "tensorboard") == EACH_ONCE


@pytest.mark.parametrize("lost", [[1], [2], [1, 2, 3]])
def test_what_tensorboard_was_given_and_never_wrote_is_sent_again(tmp_path, lost):
    """Killed between the note and the write: its own files are what counts."""
    run = killed_and_continued(tmp_path / "run", "tensorboard", KILLS, lost=lost)
    assert shown(run, "tensorboard") == EACH_ONCE


@pytest.mark.parametrize("tracker", ["wandb", "mlflow", "trackio"])
def test_after_kills_a_tracker_holds_each_step_once(tmp_path, tracker):
    """None of them can take back what it was told. They have two seconds to write it: W&B's process does so each second."""
    pytest.importorskip(tracker, reason=f"{tracker} is not among the packages of the development install")
    run = killed_and_continued(tmp_path / "run", tracker, KILLS, wait_for=tracker, settled_s=2.0)
    assert shown(run, tracker) == EACH_ONCE


@pytest.mark.parametrize("tracker", ["mlflow", "trackio"])
def test_what_a_tracker_had_only_in_memory_is_sent_again(tmp_path, tracker):
    """Noted as sent and lost with the process: both can be asked what they have."""
    pytest.importorskip(tracker, reason=f"{tracker} is not among the packages of the development install")
    run = killed_and_continued(tmp_path / "run", tracker, KILLS, wait_for=tracker)
    assert shown(run, tracker) == EACH_ONCE


TRAINING, EVALUATION, END = ["epoch", "loss"], ["epoch", "eval_held_loss"], ["epoch", "train_runtime"]


def logs(*steps, names=TRAINING):
    return [(step, names) for step in steps]


def told(folder, *starts):
    """Step and metrics that a tracker is told, start by start; without the lists that JSON makes of pairs."""
    keys = ("at", "history", "new")
    made = [dict(zip(keys, start, strict=True)) for start in starts]
    value = warm.run(TRACKING + "told", {"folder": str(folder), "starts": made}).value
    return [[(step, names) for step, names in start] for start in value]


def test_a_tracker_is_told_what_it_missed_and_nothing_twice(tmp_path):
    """Killed while it was behind: step 4 had gone out, 5 to 7 had not; the run goes on from 6."""
    first = (0, [], [*logs(0, names=EVALUATION), *logs(1, 2, 3, 4), *logs(4, names=EVALUATION)])
    again = (6, [*logs(1, 2, 3, 4), *logs(4, names=EVALUATION), *logs(5, 6)], [*logs(7, 8), *logs(8, names=END)])
    third = (4, logs(1, 2, 3, 4), [*logs(5, 6, 7, 8), *logs(8, names=EVALUATION), *logs(9)])
    heard = told(tmp_path, first, again, third)

    assert heard[0] == first[2]
    assert heard[1] == [*logs(5, 6, 7, 8), *logs(8, names=END)]
    assert heard[2] == [*logs(8, names=EVALUATION), *logs(9)]


def test_without_notes_a_tracker_is_not_told_the_past(tmp_path):
    """A copy of a run may lack `tracking/`: the server can have it all."""
    heard = told(tmp_path, (4, logs(1, 2, 3, 4), logs(5)), (4, logs(1, 2, 3, 4), logs(5, 6)))
    assert heard == [logs(5), logs(6)]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_server_that_never_answers_costs_the_bounded_wait_and_no_more(tmp_path, silent_server, name):
    """The run's own work is done and saved while the tracker still waits for its first answer."""
    pytest.importorskip(name, reason=f"{name} is not among the packages of the development install")
    run, args = prepared(tmp_path, report_to=(name,))
    env = {"WANDB_BASE_URL": silent_server, "WANDB_API_KEY": "0" * 40, "MLFLOW_TRACKING_URI": silent_server}
    result = warm.run(CASE + "tracked", {**args, "seconds_to_finish": 2.0}, env=env)

    assert result.value["seconds"] < 20
    assert warnings(run) == [f"tracker `{name}` is off: it did not finish within 2 s"]
