"""Trackers get what they should, and whatever they do, the training stays as it is."""

import contextlib
import socket
import sqlite3
import threading

import pytest

from launcher.runs import events
from tests.support import warm
from tests.worker import eval_cases as cases

pytestmark = pytest.mark.train
CASE = "tests.worker.eval_cases:"
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
    assert [step for (step,) in steps] == [0, 2, 4, 6, 2, 4, 6]
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


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_server_that_never_answers_costs_the_bounded_wait_and_no_more(tmp_path, silent_server, name):
    """The run's own work is done and saved while the tracker still waits for its first answer."""
    pytest.importorskip(name, reason=f"{name} is not among the packages of the development install")
    run, args = prepared(tmp_path, report_to=(name,))
    env = {"WANDB_BASE_URL": silent_server, "WANDB_API_KEY": "0" * 40, "MLFLOW_TRACKING_URI": silent_server}
    result = warm.run(CASE + "tracked", {**args, "seconds_to_finish": 2.0}, env=env)

    assert result.value["seconds"] < 20
    assert warnings(run) == [f"tracker `{name}` is off: it did not finish within 2 s"]
