"""What follows an attempt that failed: another one where that can help, by the real command and by small scripts."""

import json
import shutil
from pathlib import Path

import pytest

from launcher.errors import Exit, MachineFailed, RunFailed
from launcher.executors import local
from launcher.runs import attempts, checkpoints, events, record, state
from launcher.runs.paths import RunDir
from tests.executors import stages
from tests.support.project import launcher, made

pytestmark = pytest.mark.slow

FAULTS = Path(__file__).parent / "faulty"
DIES = "os.kill(os.getpid(), 9)"
WELL = "note(0, 0, 'finished')"
AT_FIRST = f"if os.environ['LAUNCHER_ATTEMPT'] == '1':\n    {DIES}\n{WELL}"


class Told:
    """A view that keeps what it is told, and can act on it."""

    def __init__(self, act=lambda line: None):
        self.lines = []
        self.act = act

    def note(self, text):
        self.lines.append(text)
        self.act(text)

    def event(self, event): ...
    def output(self, line): ...
    def tick(self): ...


# ── small scripts in place of training ──────────────────────────────────────────────────────────────────────────────


def test_a_killed_process_is_followed_by_another_attempt_and_both_are_on_record(tmp_path):
    """Who asked for an attempt, why it ended and what came of it: the batch script and the report read only that."""
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("train", AT_FIRST), max_requeues=10)
    view = Told()
    assert local.run(run_dir, view) == Exit.DONE
    assert view.lines == [
        "attempt 1 failed: torchrun was ended by SIGKILL before a rank could say why",
        "trying again in 1 s (attempt 2, from step 0)",
    ]
    named = ("code", "cause", "from_step", "to_step", "asked_by")
    assert [tuple(stages.facts(run_dir, number)[name] for name in named) for number in (1, 2)] == [
        (86, "infrastructure", 0, 0, "person"),
        (0, "finished", 0, 0, "policy"),
    ]
    retry = next(event for event in events.read(run_dir.events) if event["event"] == "retry")
    assert (retry["attempt"], retry["cause"], retry["step"], retry["after_s"]) == (1, "infrastructure", 0, 1.0)


def test_between_two_attempts_a_run_is_running(tmp_path):
    """It has not failed as long as its launcher goes on; once that is killed while it waits, it has."""
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("train", AT_FIRST), max_requeues=10)
    seen = []
    local.run(run_dir, Told(lambda line: seen.append(state.derive(run_dir)) if "trying again" in line else None))
    assert seen == [state.State("running", "about to try again")]
    reason = "torchrun was ended by SIGKILL before a rank could say why"
    run_dir.done.unlink()
    shutil.rmtree(run_dir.attempt(2))
    assert state.derive(run_dir) == state.State("failed", reason)


def test_a_stop_request_ends_the_wait(tmp_path):
    """The error is told at once, with 86: the same command goes on."""
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("train", DIES), max_requeues=10)
    view = Told(lambda line: run_dir.stop_request.touch() if "trying again" in line else None)
    with pytest.raises(MachineFailed) as caught:
        local.run(run_dir, view)
    assert caught.value.exit_code == 86
    assert attempts.numbers(run_dir) == (1,)
    assert state.derive(run_dir).name == "failed"


def test_a_run_that_stops_on_request_and_fails_then_is_not_started_again(tmp_path):
    """Nobody waits for another attempt."""
    run_dir = stages.run_dir(
        tmp_path / "demo", stages.job("train", f"open(f'{{run}}/stop', 'w').close()\n{DIES}"), max_requeues=10
    )
    view = Told()
    with pytest.raises(MachineFailed):
        local.run(run_dir, view)
    assert not any("trying again" in line for line in view.lines)


def test_progress_is_counted_from_what_is_saved(tmp_path):
    """Each attempt saves a step more, so it goes on until the limit; then 86, and the message says which limit."""
    saves = (
        "import shutil\nn = int(os.environ['LAUNCHER_ATTEMPT'])\n"
        "shutil.move(f'{run}/kept/checkpoint-{n}', f'{run}/checkpoints/checkpoint-{n}')\n"
    )
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("train", saves + DIES), max_requeues=3)
    run_dir.checkpoints.mkdir()
    for step in range(1, 5):
        _checkpoint(run_dir.root / "kept" / f"checkpoint-{step}", step)
    view = Told()
    with pytest.raises(MachineFailed) as caught:
        local.run(run_dir, view)
    first = caught.value.message.splitlines()[0]
    assert first.endswith("(started again 3 times, as often as `launch.max_requeues` allows)")
    assert "trying again in 4 s (attempt 4, from checkpoint-3)" in view.lines
    spans = [(stages.facts(run_dir, n)["from_step"], stages.facts(run_dir, n)["to_step"]) for n in (1, 2, 3, 4)]
    assert spans == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert stages.facts(run_dir, 4)["code"] == 86


MEMORY = "note(0, 93, 'out_of_memory', 'out of memory')\nsys.exit(1)"


def test_halve_changes_the_split_once_and_a_second_time_stops(tmp_path):
    """Four rows do not fit, two do not either: who halves on and on hides that something else is wrong."""
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("train", MEMORY), on_oom="halve")
    with pytest.raises(RunFailed) as caught:
        local.run(run_dir, Told())
    assert attempts.numbers(run_dir) == (1, 2)
    assert "--set training.per_device_train_batch_size=1` goes on with 1 row at a time, 4 passes" in caught.value.hint
    view = Told()
    with pytest.raises(RunFailed):
        local.run(run_dir, view)
    assert attempts.numbers(run_dir) == (1, 2, 3)
    assert view.lines[0].startswith(
        "2 rows at a time, 2 passes per step, not the recipe's 4 at a time (`training.on_oom: halve`"
    )
    assert record.read(run_dir).split == record.Split(4, 2, "policy")


def test_an_attempt_is_opened_before_anything_is_swept_or_chosen(tmp_path, monkeypatch):
    """A rank of an older attempt that lives on elsewhere sees the new folder before it could commit; else it would
    commit a checkpoint after the newest one was chosen."""
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("train", WELL))
    seen = []
    for name in ("sweep", "newest"):
        real = getattr(checkpoints, name)

        def spy(*args, real=real, name=name, **kwargs):
            seen.append((name, attempts.numbers(run_dir)))
            return real(*args, **kwargs)

        monkeypatch.setattr(checkpoints, name, spy)
    local.run(run_dir, Told())
    assert seen[:2] == [("sweep", (1,)), ("newest", (1,))]


def _checkpoint(folder, step):
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"1")
    files = {"weights": {"size": 1, "sha256": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"}}
    text = checkpoints.manifest_text({"schema": checkpoints.SCHEMA, "step": step, "files": files})
    (folder / checkpoints.MANIFEST).write_text(text)


# ── the real command, with real training ────────────────────────────────────────────────────────────────────────────

RECIPE = """
schema: 1
model: {model_name_or_path: model}
data:
  datasets: [{label: sums, path: sums.jsonl, columns: {prompt: question, completion: answer}}]
  max_length: 64
training: {global_batch_size: 4, per_device_train_batch_size: 4, max_steps: 12, learning_rate: 1.0e-3}
checkpoint: {save_steps: 4}
"""


def struck(*arguments, cwd, fault="none:0:*"):
    """Run the command to its end; `fault` strikes its ranks, which write down the rows they train."""
    rows = Path(cwd) / f"{arguments[1]}.rows"
    injected = {"FAULT": fault, "PYTHONPATH": str(FAULTS), "LEDGER": str(rows)}
    return launcher(*arguments, cwd=cwd, env={"OMP_WAIT_POLICY": "PASSIVE", **injected})


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A recipe whose data is ready; each test takes a copy of the run."""
    folder = tmp_path_factory.mktemp("restart")
    made(folder, RECIPE, rows=40)
    done = struck("prepare", "sums.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def copied(project, name):
    shutil.copytree(project / "runs" / "sums", project / "runs" / name)
    return RunDir(project / "runs" / name)


def losses(run_dir):
    """Step → loss; of steps that were trained twice, the last one."""
    return {each["step"]: each["loss"] for each in events.read(run_dir.events) if each["event"] == "step"}


def ledger(run_dir, step):
    """(step, token ids) of each row that was trained from `step` on; no two rows of a source are the same."""
    lines = (run_dir.root.parent.parent / f"{run_dir.name}.rows").read_text().splitlines()
    return {line for line in lines if int(line.partition(" ")[0]) >= step}


@pytest.fixture(scope="module")
def whole(project):
    """The run that nothing disturbed."""
    run_dir = copied(project, "whole")
    done = struck("run", "whole", cwd=project)
    assert done.returncode == 0, done.stderr
    return losses(run_dir)


@pytest.mark.train
def test_a_run_whose_rank_is_killed_goes_on_by_itself_to_the_same_losses(project, whole):
    """SIGKILL in step 7, with step 4 saved: nobody has to type anything."""
    run_dir = copied(project, "killed")
    done = struck("run", "killed", cwd=project, fault="kill:6:2")  # preparing was attempt 1
    assert done.returncode == 0, done.stderr
    assert "attempt 2 failed: rank 0 was ended by SIGKILL" in done.stderr
    assert "trying again in 1 s (attempt 3, from checkpoint-4)" in done.stderr
    assert losses(run_dir) == whole
    assert sorted(whole) == list(range(1, 13))
    assert attempts.numbers(run_dir) == (1, 2, 3)
    assert [attempts.read(run_dir, 2).to_step, attempts.read(run_dir, 3).from_step] == [4, 4]


@pytest.mark.train
def test_a_rank_that_dies_at_once_each_time_ends_the_run_after_three_attempts(project):
    """No circle: 93, what was seen each time, and one command to look closer."""
    run_dir = copied(project, "circle")
    done = struck("run", "circle", cwd=project, fault="kill:start:*")
    assert done.returncode == 93
    assert "error: no progress in 3 attempts in a row, the last one: rank 0 was ended by SIGKILL" in done.stderr
    for number in (2, 3, 4):
        assert f"       attempt {number}: rank 0 was ended by SIGKILL" in done.stderr
    assert done.stderr.rstrip().splitlines()[-1] == "hint:  `launcher logs circle` shows what the last one did"
    assert done.stderr.count("error: ") == 1
    assert attempts.numbers(run_dir) == (1, 2, 3, 4)
    assert state.derive(run_dir).reason.startswith("no progress in 3 attempts in a row")


@pytest.mark.train
def test_a_bug_is_met_once(project):
    """It would be there the second time too; 6, as for any failed run."""
    run_dir = copied(project, "bug")
    done = struck("run", "bug", cwd=project, fault="code:6:*")
    assert done.returncode == 6
    assert "error: rank 0 failed: KeyError: 'a bug'" in done.stderr
    assert "trying again" not in done.stderr
    assert attempts.numbers(run_dir) == (1, 2)
    assert attempts.read(run_dir, 2).cause == "code"
    assert attempts.read(run_dir, 2).to_step == 4


@pytest.mark.train
def test_a_run_out_of_memory_says_what_to_type_and_that_line_goes_on(project, whole):
    """The rows are named, the line is typed as it stands, and each step takes the rows that it would have taken."""
    run_dir = copied(project, "large")
    done = struck("run", "large", cwd=project, fault="memory-2:6:*")
    assert done.returncode == 6
    assert "error: rank 0 ran out of memory: RuntimeError: " in done.stderr
    assert "batch: step 7, pass 1 of 1: 4 rows, " in done.stderr
    assert f"rows:  sums ({project}/sums.jsonl:" in done.stderr
    line = next(each for each in done.stderr.split("`") if each.startswith("launcher run large --set"))
    assert line == "launcher run large --set training.per_device_train_batch_size=2"

    done = struck(*line.split()[1:], cwd=project, fault="memory-2:6:*")
    assert done.returncode == 0, done.stderr
    assert "2 rows at a time, 2 passes per step, not the recipe's 4 at a time" in done.stderr
    assert losses(run_dir) == pytest.approx(whole, abs=1e-6)
    assert ledger(run_dir, 5) == ledger(RunDir(project / "runs" / "whole"), 5)
    assert len(ledger(run_dir, 5)) == 8 * 4
    assert record.read(run_dir).split == record.Split(4, 2, "person")


@pytest.mark.train
def test_halve_does_that_by_itself(project, whole):
    """Nobody types anything; what was changed is on record, and the result is that of the undisturbed run."""
    run_dir = copied(project, "halved")
    stages.replan(run_dir, restart=stages.RestartPlan(max_requeues=0, on_oom="halve"))
    done = struck("run", "halved", cwd=project, fault="memory-2:6:*")
    assert done.returncode == 0, done.stderr
    assert "attempt 2 failed: rank 0 ran out of memory" in done.stderr
    assert "from now on 2 rows at a time, 2 passes per step" in done.stderr
    assert "trying again (attempt 3, from checkpoint-4)" in done.stderr
    assert losses(run_dir) == pytest.approx(whole, abs=1e-6)
    assert record.read(run_dir).split == record.Split(4, 2, "policy")
    sizes = [json.loads(path.read_text())["batch"]["per_device"] for path in (run_dir.attempt_plan(2), run_dir.plan)]
    assert sizes == [4, 2]
    told = next(event for event in events.read(run_dir.events) if event["event"] == "split")
    assert (told["before"], told["per_device"], told["accumulation"], told["asked_by"]) == (4, 2, 2, "policy")
