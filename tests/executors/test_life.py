"""The life of real runs, driven as a person drives them: by the `launcher` command, by kill, and by copying directories."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from launcher.executors import processes
from launcher.runs import checkpoints, events, record
from launcher.runs.paths import RunDir
from tests.support import project
from tests.support.project import begun, launcher
from tests.support.until import until

pytestmark = [pytest.mark.train, pytest.mark.slow]

RECIPE = """
schema: 1
model: {model_name_or_path: model}
data:
  datasets: [{label: sums, path: sums.jsonl, columns: {prompt: question, completion: answer}}]
  eval_datasets: [{label: held_out, from: sums, fraction: 0.1}]
  max_length: 64
training: {global_batch_size: 4, gradient_accumulation_steps: 1, num_train_epochs: 24, learning_rate: 1.0e-3}
checkpoint: {save_steps: 25}
"""


@pytest.fixture(scope="module", autouse=True)
def _threads_that_yield():
    """Tests share their cores; OpenMP threads that spin while they wait would slow each other down tenfold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        yield


def steps(run_dir, attempt):
    """(step, loss) of one attempt."""
    found, now = [], 0
    for event in events.read(run_dir.events):
        now = event["attempt"] if event["event"] == "attempt" else now
        if event["event"] == "step" and now == attempt:
            found.append((event["step"], event["loss"]))
    return found


def training(life, process, attempt, many=1):
    """Wait until an attempt has made so many steps."""
    until(lambda: process.poll() is not None or len(steps(life.run_dir, attempt)) >= many, seconds=120)
    assert process.poll() is None, process.communicate()


def agent(run_dir):
    """Pid of torchrun's agent."""
    for pid in processes.survivors(run_dir, record.read(run_dir).id):
        if b"launcher.worker.torchrun" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError("no agent")


@dataclass
class Life:
    """What was seen of one run, in the order in which it happened."""

    folder: Path
    run_dir: RunDir
    said: dict[str, subprocess.CompletedProcess] = field(default_factory=dict)
    seen: dict[str, object] = field(default_factory=dict)

    @property
    def id(self):
        return record.read(self.run_dir).id


def _kill_agent(life):
    """Two ranks train; their agent is killed, and the run may not start again by itself."""
    process = begun(
        "run", "sums.yaml", "--set", "launch.processes=2", "--set", "launch.max_requeues=0", cwd=life.folder
    )
    training(life, process, 1)
    life.seen["ranks"] = len(processes.survivors(life.run_dir, life.id)) - 1
    os.kill(agent(life.run_dir), signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    life.said["agent killed"] = subprocess.CompletedProcess("run", process.returncode, out, err)
    life.seen["orphans of the agent"] = processes.survivors(life.run_dir, life.id)
    life.seen["saved before the agent was killed"] = checkpoints.newest(life.run_dir).checkpoint


def _kill_launcher(life):
    """The same command starts over; then the launcher itself is killed."""
    process = begun("run", "sums.yaml", "--set", "launch.processes=2", cwd=life.folder)
    training(life, process, 2, many=2)
    process.kill()
    process.communicate()
    until(lambda: not processes.survivors(life.run_dir, life.id), seconds=60)
    life.seen["saved by the ranks of a killed launcher"] = checkpoints.newest(life.run_dir).checkpoint.step


def _stop(life):
    """In the background and on one rank; looked at, started again, stopped."""
    life.said["detached"] = launcher("run", "sums.yaml", "--detach", cwd=life.folder)
    until(lambda: steps(life.run_dir, 3), seconds=120)
    life.said["started again"] = launcher("run", "sums.yaml", cwd=life.folder)
    life.said["status"] = launcher("status", "sums", "--json", cwd=life.folder)
    life.said["stopped"] = launcher("stop", "sums", "--wait", "60", cwd=life.folder)
    life.said["stopped status"] = launcher("status", "sums", "--json", cwd=life.folder)


def _finish(life, elsewhere):
    """A copy goes on without the data and with the model at another place; then the original does."""
    elsewhere.mkdir()
    shutil.copytree(life.run_dir.root, elsewhere / "copy")
    shutil.copytree(life.folder / "model", elsewhere / "weights")
    hidden = life.folder.rename(life.folder.parent / "hidden")
    try:
        life.said["copy without model"] = launcher("run", "copy", cwd=elsewhere)
        arguments = ("run", "copy", "--set", "model.model_name_or_path=weights")
        life.said["copy"] = launcher(*arguments, cwd=elsewhere)
    finally:
        hidden.rename(life.folder)
    life.said["finished"] = launcher("run", "sums.yaml", cwd=life.folder)
    life.said["run again"] = launcher("run", "sums.yaml", cwd=life.folder)
    life.seen["copy"] = RunDir(elsewhere / "copy")


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    folder = tmp_path_factory.mktemp("life") / "project"
    project.made(folder, RECIPE, rows=60)
    seen = Life(folder, RunDir(folder / "runs" / "sums"))
    _kill_agent(seen)
    _kill_launcher(seen)
    _stop(seen)
    _finish(seen, folder.parent / "elsewhere")
    return seen


def test_a_killed_agent_leaves_no_orphans_and_a_plain_message(life):
    """torchrun starts ranks in sessions of their own: nobody else would end them."""
    assert life.seen["ranks"] >= 2
    assert life.said["agent killed"].returncode == 86
    assert life.seen["orphans of the agent"] == ()
    err = life.said["agent killed"].stderr
    assert "error: torchrun was ended by SIGKILL before a rank could say why" in err
    assert "Traceback" not in err


def test_a_run_killed_before_its_first_checkpoint_starts_over_and_says_so(life):
    """No checkpoint is no reason to fail, and none to be silent."""
    assert life.seen["saved before the agent was killed"] is None
    assert steps(life.run_dir, 2)[0][0] == 1
    log = (life.run_dir.launcher_log).read_text()
    assert "continuing from checkpoint-" in log


def test_ranks_of_a_killed_launcher_save_and_the_same_command_goes_on_from_there(life):
    """SIGKILL of the launcher costs no step."""
    saved = life.seen["saved by the ranks of a killed launcher"]
    assert saved >= steps(life.run_dir, 2)[-1][0]
    assert steps(life.run_dir, 3)[0][0] == saved + 1


def test_a_run_of_two_ranks_goes_on_with_one(life):
    """How many ranks there are is no part of what a run is."""
    starts = [event["world_size"] for event in events.read(life.run_dir.events) if event["event"] == "start"]
    assert starts == [2, 2, 1, 1]
    resumed = [
        (event["step"], event["world_size"]) for event in events.read(life.run_dir.events) if event["event"] == "resume"
    ]
    assert resumed[0] == (life.seen["saved by the ranks of a killed launcher"], 1)


def test_a_second_start_shows_the_running_one_and_ends_well(life):
    """Two runs cannot share a directory; starting twice is no mistake."""
    assert life.said["detached"].returncode == 0
    assert "runs/sums/logs/launcher.log" in life.said["detached"].stdout
    assert life.said["started again"].returncode == 0
    assert "is running already" in life.said["started again"].stderr
    status = json.loads(life.said["status"].stdout)
    assert status["state"] == "running"
    assert [attempt["code"] for attempt in status["attempts"]] == [86, None, None]


def test_stop_saves_at_the_next_step_and_the_run_ends_with_85(life):
    """Nothing is lost by stopping."""
    assert life.said["stopped"].returncode == 0
    status = json.loads(life.said["stopped status"].stdout)
    assert (status["state"], status["reason"]) == ("stopped", "saved")
    assert status["attempts"][2]["code"] == 85
    assert status["checkpoint_step"] == status["step"] == steps(life.run_dir, 3)[-1][0]
    assert status["steps_at_risk"] == 0


def test_the_run_goes_on_to_its_end_and_then_says_that_it_is_finished(life):
    """Every step was trained exactly once by those that count; 60 rows, 10 of them repeated, 5 held out: 45, filled up to 48, 12 steps, 24 times."""
    assert life.said["finished"].returncode == 0, life.said["finished"].stderr
    assert steps(life.run_dir, 4)[0][0] == steps(life.run_dir, 3)[-1][0] + 1
    assert steps(life.run_dir, 4)[-1][0] == 24 * 12
    assert life.run_dir.done.exists()
    assert (life.run_dir.model / "model.safetensors").exists()
    assert life.said["run again"].returncode == 0
    assert "is finished" in life.said["run again"].stderr
    assert len(list((life.run_dir.root / "attempts").iterdir())) == 4


def test_a_copied_directory_goes_on_elsewhere_to_the_same_losses(life):
    """Absolute paths stand in one file; the model's place is asked for with the line that gives it."""
    refused = life.said["copy without model"]
    assert refused.returncode == 4
    assert "project/model is not on this machine" in refused.stderr
    assert "--set model.model_name_or_path=PATH" in refused.stderr
    assert life.said["copy"].returncode == 0, life.said["copy"].stderr
    copy = life.seen["copy"]
    assert steps(copy, 5) == steps(life.run_dir, 4)
    assert len(steps(copy, 5)) > 0


OWN_MOUNTS = ("unshare", "--map-root-user", "--mount")
DISK = """
set -e
mount -t tmpfs -o size=2m none {disk}
cp -r {copy} {disk}/full
cat /dev/zero > {disk}/other 2> /dev/null || truncate -s -200k {disk}/other
set +e
{launcher} run {disk}/full
echo "code $?"
{launcher} status {disk}/full
"""


def test_a_full_disk_ends_the_run_in_one_message_and_exit_code_4(life, tmp_path):
    """The checkpoint that did not fit is not there, and the earlier ones are."""
    if subprocess.run([*OWN_MOUNTS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this host lets nobody mount a small disk of their own (unshare --mount)")
    source, disk = tmp_path / "source", tmp_path / "disk"
    disk.mkdir()
    shutil.copytree(life.run_dir.root, source, ignore=shutil.ignore_patterns("checkpoint-*", "DONE", "model", "logs"))
    script = DISK.format(disk=disk, copy=source, launcher=shlex.join([sys.executable, "-m", "launcher"]))
    done = subprocess.run(
        [*OWN_MOUNTS, "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    assert "code 4" in done.stdout, done.stdout + done.stderr
    assert done.stderr.count("error: ") == 1
    assert "disk is full" in done.stderr
    assert "Traceback" not in done.stderr
