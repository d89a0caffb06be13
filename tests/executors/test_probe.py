"""Three steps before the training: what does not fit is halved, and nothing that goes wrong in them stops a run."""

import dataclasses
import json
from pathlib import Path

import pytest

from launcher.errors import Exit, RunFailed
from launcher.executors import local, probe
from launcher.plan import codec
from launcher.runs import attempts, events, record
from launcher.runs.paths import RunDir
from tests.executors import stages
from tests.executors.test_restart import Told
from tests.support import tiny
from tests.support.project import launcher, made

SCRIPT = """
plan = json.load(open(run + "/plan.json"))
trying, rows = plan["restart"]["probe"] == "this", plan["batch"]["per_device"]
if not trying: open(run + "/trained", "a").write(f"{rows} ")
WHAT
note(0, 0, 'finished')
"""


def scripted(root: Path, what: str, **restart) -> RunDir:
    """A run of four rows per device whose training is a script; `what` may look at `trying` and `rows`."""
    script = SCRIPT.replace("WHAT", what)
    return stages.run_dir(root, stages.job("train", script), **{"probe": "first", **restart})


def memory(limit: int) -> str:
    return f"if rows > {limit}:\n    note(0, 93, 'out_of_memory', 'out of memory'); sys.exit(1)"


def told(run_dir: RunDir) -> list[tuple[int, bool]]:
    return [(each["per_device"], each["fits"]) for each in events.read(run_dir.events) if each["event"] == "probe"]


def test_rows_are_halved_until_they_fit_and_then_it_trains(tmp_path):
    """Four and two rows do not fit, one does: one attempt, nothing failed, and the plan says why it is one row."""
    run_dir = scripted(tmp_path / "demo", memory(1))
    view = Told()
    assert local.run(run_dir, view) == Exit.DONE
    assert told(run_dir) == [(4, False), (2, False), (1, True)]
    assert (run_dir.root / "trained").read_text().split() == ["1"]
    assert attempts.numbers(run_dir) == (1,)
    assert record.read(run_dir).split == record.Split(4, 1, "probe")
    sizes = [codec.loads(path.read_text()).batch for path in (run_dir.plan, run_dir.attempt_plan(1))]
    assert [(each.per_device, each.accumulation) for each in sizes] == [(1, 4), (1, 4)]
    assert "`launch.probe`: with 4 this run ran out of memory" in run_dir.plan_text.read_text()
    assert view.lines[0] == "trying 3 steps of the longest rows, 4 rows at a time, 1 pass per step (`launch.probe`)"
    assert view.lines[-1] == "it fits"
    assert not run_dir.probe.root.exists()


def test_what_does_not_fit_one_at_a_time_stops_the_run_before_it_trains(tmp_path):
    """The message is that of a training that ran out of memory: what to change."""
    run_dir = scripted(tmp_path / "demo", memory(0))
    with pytest.raises(RunFailed) as caught:
        local.run(run_dir, Told())
    assert caught.value.message.startswith("the longest rows do not fit (`launch.probe`): rank 0 ran out of memory")
    assert "activation_checkpointing=true" in caught.value.hint
    assert not (run_dir.root / "trained").exists()
    assert told(run_dir) == [(4, False), (2, False), (1, False)]


def test_anything_else_that_goes_wrong_is_left_to_the_training(tmp_path):
    """A bug, or a machine that fails: there it is told with its evidence, and tried again where that helps."""
    run_dir = scripted(tmp_path / "demo", "if trying: note(0, 93, 'code', 'KeyError: x'); sys.exit(1)")
    view = Told()
    assert local.run(run_dir, view) == Exit.DONE
    assert (run_dir.root / "trained").read_text().split() == ["4"]
    assert "KeyError: x" in view.lines[-1]
    assert told(run_dir) == []


def test_a_stop_in_the_midst_of_it_is_a_stop(tmp_path):
    """Nothing was trained, so nothing is to be saved; the next start tries again."""
    run_dir = scripted(tmp_path / "demo", "if trying: note(0, 85, 'stopped'); sys.exit(1)")
    assert local.run(run_dir, Told()) == Exit.SAVED_AND_STOPPED
    assert not (run_dir.root / "trained").exists()
    assert not run_dir.probe.root.exists()


def test_what_was_seen_to_fit_is_not_tried_again(tmp_path):
    """The second attempt, after a fault of the machine, goes on at once."""
    dies = "if not trying and os.environ['LAUNCHER_ATTEMPT'] == '1': os.kill(os.getpid(), 9)"
    run_dir = scripted(tmp_path / "demo", f"{memory(2)}\n{dies}", max_requeues=3)
    assert local.run(run_dir, Told()) == Exit.DONE
    assert attempts.numbers(run_dir) == (1, 2)
    assert told(run_dir) == [(4, False), (2, True)]
    assert [codec.loads(run_dir.attempt_plan(number).read_text()).batch.per_device for number in (1, 2)] == [2, 2]


def test_without_the_key_nothing_is_tried(tmp_path):
    run_dir = scripted(tmp_path / "demo", "", probe="none")
    assert local.run(run_dir, Told()) == Exit.DONE
    assert told(run_dir) == []


def test_a_try_measures_saves_and_reports_nothing():
    """An 8B model is not written for it, nobody's tracker sees it, and no evaluation takes its minutes."""
    train = stages.job("train", "")
    plan = tiny.plan(
        global_size=32, per_device=4, world_size=2, eval_sources=tiny.held_out("held", 0.2), eval_steps=1,
        report_to=("wandb",),
    )  # fmt: skip
    found = probe.small(dataclasses.replace(plan, jobs=(train,)))
    assert (found.batch.accumulation, found.batch.global_size) == (2, 16)
    assert found.trainer["gradient_accumulation_steps"] == 2
    assert found.trainer["save_strategy"] == "no"
    assert (found.data.eval_sources, found.evaluation.eval_steps, found.tracking.report_to) == ((), None, ())
    assert found.restart.probe == "this"


RECIPE = """\
model: {model_name_or_path: ./model, dtype: float32}
data: {max_length: 64, datasets: [{label: sums, path: sums.jsonl, columns: {prompt: question, completion: answer}}]}
training: {global_batch_size: 4, per_device_train_batch_size: 4, max_steps: 4, activation_checkpointing: false}
launch: {probe: true}
"""


@pytest.mark.train
@pytest.mark.slow
def test_a_real_try_takes_the_longest_rows_and_leaves_only_what_it_found(tmp_path):
    """Ranks that run out of memory with more than two rows: halved once, then trained; the first rows seen are the longest."""
    project, ledger = made(tmp_path / "project", RECIPE, rows=40), tmp_path / "ledger"
    faulty = Path(__file__).parent / "faulty"
    env = {"FAULT": "memory-2:0:*", "LEDGER": str(ledger), "PYTHONPATH": f"{faulty}:{Path(__file__).parents[2]}"}
    done = launcher("run", "sums.yaml", cwd=project, env=env)
    assert done.returncode == 0, done.stderr
    run_dir = RunDir(project / "runs" / "sums")
    assert told(run_dir) == [(4, False), (2, True)]
    (fitting,) = [each for each in events.read(run_dir.events) if each["event"] == "probe" and each["fits"]]
    assert fitting["peak_bytes"] > 0
    rows = [line.split()[1:] for line in ledger.read_text().splitlines()]
    tried, trained = rows[: 3 * 4], rows[3 * 4 :]
    assert len(trained) == 4 * 4
    lengths = sorted((len(row) for row in trained), reverse=True)
    assert min(len(row) for row in tried) >= lengths[3]
    assert len({tuple(row) for row in tried}) == 4
    assert [each["step"] for each in events.read(run_dir.events) if each["event"] == "step"] == [1, 2, 3, 4]
    assert json.loads(run_dir.plan.read_text())["batch"] == {
        "global_size": 4, "per_device": 2, "accumulation": 2, "world_size": 1,
    }  # fmt: skip
    assert not run_dir.probe.root.exists()
