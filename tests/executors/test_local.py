"""What the local executor makes of its stages: requests, failures, survivors."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from launcher.errors import DataError, EnvironmentFault, Exit, MachineFailed, RunFailed
from launcher.executors import local, outcome, processes
from launcher.executors import stages as local_stages
from launcher.runs import attempts, events, lock, state
from tests.executors import stages
from tests.support.until import until

RANK = "import subprocess\nsubprocess.Popen(['sleep', '600'], start_new_session=True)\n"
SLEEP = "open(f'{run}/started', 'w').close()\ntime.sleep(600)"


class Silent:
    """A view for tests that look at files."""

    def note(self, text): ...
    def event(self, event): ...
    def output(self, line): ...
    def tick(self): ...


@pytest.fixture
def start():
    """Start `launcher run` as a person would; what is left of it is killed at the end."""
    started = []

    def begin(run_dir):
        process = subprocess.Popen(
            stages.launch(run_dir), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        until(lambda: (run_dir.root / "started").exists() or process.poll() is not None)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_ctrl_c_leaves_at_once_with_130_and_no_process(tmp_path, start):
    """The first waits for a step that may never end; the second waits for nothing. Ranks have sessions of their own, as under torchrun."""
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("train", RANK + SLEEP))
    process = start(run_dir)
    assert len(processes.survivors(run_dir, "demo-0001")) == 2
    process.send_signal(signal.SIGINT)
    until(run_dir.stop_request.exists)
    assert process.poll() is None
    assert state.derive(run_dir) == state.State("running", "stopping")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "left at once, without saving" in said
    assert processes.survivors(run_dir, "demo-0001") == ()
    assert state.derive(run_dir) == state.State("stopped", "left at once")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_stop_while_data_is_prepared_ends_it_with_85(number, tmp_path, start):
    """Nothing is trained yet, so nothing is saved; the same command goes on."""
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("prepare", SLEEP), stages.job("train", ""))
    process = start(run_dir)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == Exit.SAVED_AND_STOPPED
    assert state.derive(run_dir) == state.State("stopped", "nothing saved yet")
    assert [each.get("state") for each in events.read(run_dir.events)] == [None, "started", "stopped"]


def test_a_killed_launcher_takes_its_stage_with_it(tmp_path, start):
    """SIGKILL cannot be caught; the kernel tells the stage."""
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("train", SLEEP))
    process = start(run_dir)
    assert len(processes.survivors(run_dir, "demo-0001")) == 1
    process.kill()
    process.wait()
    until(lambda: not processes.survivors(run_dir, "demo-0001"), seconds=5)
    assert not lock.held(run_dir)


def test_survivors_are_known_by_id_and_directory_even_after_it_was_moved(tmp_path):
    """A copy that runs under the same id elsewhere must be left alone; a renamed directory must not hide its own."""
    here, there = stages.run_dir(tmp_path / "here", stages.job("train", "")), stages.run_dir(tmp_path / "there")
    children = [
        subprocess.Popen(["sleep", "600"], env={**os.environ, "LAUNCHER_RUN_ID": run_id}, stdout=(where.root / "log").open("w"))
        for run_id, where in (("same", here), ("same", there), ("other", here))
    ]  # fmt: skip
    try:
        until(lambda: processes.survivors(here, "same"))
        assert processes.survivors(here, "same") == (children[0].pid,)
        moved = type(here)(shutil.move(here.root, tmp_path / "moved"))
        assert processes.survivors(moved, "same") == (children[0].pid,)
        assert processes.survivors(there, "same") == (children[1].pid,)
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_a_survivor_that_does_not_leave_is_killed_before_the_run_goes_on(tmp_path):
    """Two writers in one run directory would mix their checkpoints."""
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("train", "note(0, 0, 'finished')"))
    stubborn = subprocess.Popen(
        [sys.executable, "-c", "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint(1, flush=True)\ntime.sleep(600)"],
        env={**os.environ, "LAUNCHER_RUN_ID": "demo-0001"}, stdout=(run_dir.root / "log").open("w"),
    )  # fmt: skip
    try:
        until((run_dir.root / "log").read_text)
        processes.end_survivors(run_dir, "demo-0001", urgent=lambda: False, grace_s=0.3)
    except AssertionError:
        stubborn.kill()
        raise
    assert stubborn.wait(5) == -signal.SIGKILL
    assert local.run(run_dir, Silent()) == Exit.DONE


def test_a_finished_run_is_marked_done_and_a_locked_one_is_left_alone(tmp_path):
    """Exit notes decide: torchrun's own code says little."""
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("train", "note(0, 0, 'finished')\nsys.exit(1)"))
    with lock.hold(run_dir):
        assert local.run(run_dir, Silent()) is None
    assert local.run(run_dir, Silent()) == Exit.DONE
    assert run_dir.done.exists()
    assert stages.facts(run_dir)["code"] == 0


ONCE = "`launch.max_requeues` is 0: it does not start again by itself"
FAILURES = {
    "the first failing rank is named, not the ranks that follow": (
        "note(1, 93, 'code', 'IndexError: index out of range')\ntime.sleep(0.01)\nnote(0, 93, 'code', 'Connection reset by peer')\nsys.exit(1)",
        RunFailed, "rank 1 failed: IndexError: index out of range", "`launcher logs DIR --rank 1` shows the whole log",
    ),
    "a full disk is this machine's fault": (
        "note(0, 86, 'disk_full', 'the disk is full: model.safetensors', 'free space, then run again')\nsys.exit(1)",
        EnvironmentFault, "rank 0 failed: the disk is full: model.safetensors", "free space, then run again: `launcher run DIR`",
    ),
    "a rank that was killed had no time to say so; torchrun saw it": (
        "note(0, 93, 'code', 'Connection reset by peer')\nprint('Root Cause (first observed failure):\\n[0]:\\n  rank      : 1 (local_rank: 1)\\n  exitcode  : -9 (pid: 7)')\nsys.exit(1)",
        MachineFailed, f"rank 1 was ended by SIGKILL; the machine was probably out of memory ({ONCE})",
        "`launcher run DIR` goes on from the last checkpoint",
    ),
    "torchrun itself was killed": (
        "os.kill(os.getpid(), 9)",
        MachineFailed, f"torchrun was ended by SIGKILL before a rank could say why ({ONCE})",
        "`launcher run DIR` goes on from the last checkpoint",
    ),
    "srun says of a signal that it adds 128 to it": (
        "sys.exit(137)",
        MachineFailed, f"torchrun was ended by SIGKILL before a rank could say why ({ONCE})",
        "`launcher run DIR` goes on from the last checkpoint",
    ),
    "ranks that never met are no fault of theirs": (
        "print('torch.distributed.DistNetworkError: The server socket has failed to listen on port 29400')\nsys.exit(1)",
        MachineFailed, f"torchrun left with exit code 1 before a rank could say why ({ONCE})",
        "`launcher run DIR` goes on from the last checkpoint",
    ),
    "a rank that hangs is named by those who watch it": (
        "note(0, 86, 'hang', 'rank 0 did not arrive', 'its stack is in stacks-0.txt')\nsys.exit(1)",
        MachineFailed, f"rank 0 did not arrive ({ONCE})", "its stack is in stacks-0.txt: `launcher run DIR`",
    ),
    "memory that does not suffice is answered with the smallest change": (
        "note(0, 93, 'out_of_memory', 'CUDA out of memory\\nbatch: step 3', 'ours is better')\nsys.exit(1)",
        RunFailed, "rank 0 ran out of memory: CUDA out of memory",
        "`launcher run DIR --set training.per_device_train_batch_size=2` goes on with 2 rows at a time, 2 passes per step: the same 4 rows per step, the same result",
    ),
}  # fmt: skip


@pytest.mark.parametrize("claim", FAILURES)
def test_a_failure_is_one_cause_and_one_next_command(claim, tmp_path):
    """The first line is the cause; noise of the other ranks stays in their logs."""
    script, kind, message, hint = FAILURES[claim]
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("train", script, processes=2))
    with pytest.raises(kind) as caught:
        local.run(run_dir, Silent())
    assert caught.value.message.splitlines()[0] == message
    assert caught.value.hint == hint.replace("DIR", str(run_dir.root))
    assert state.derive(run_dir) == state.State("failed", message)
    assert stages.facts(run_dir)["code"] == caught.value.exit_code


def test_ranks_that_wait_for_a_failed_one_are_ended(tmp_path, monkeypatch):
    """In a collective they would wait for ever, and hold the machine meanwhile."""
    monkeypatch.setattr(local_stages, "_FAILURE_GRACE_S", 0.3)
    run_dir = stages.run_dir(
        tmp_path / "demo", stages.job("train", "note(1, 93, 'code', 'boom')\n" + SLEEP, processes=2)
    )
    with pytest.raises(RunFailed, match="rank 1 failed: boom"):
        local.run(run_dir, Silent())
    assert processes.survivors(run_dir, "demo-0001") == ()


def test_what_started_ranks_is_ended_when_all_have_left(tmp_path, monkeypatch):
    """srun waits for ever where SLURM's daemon of the step was killed; the run is done all the same."""
    monkeypatch.setattr(local_stages, "_FAILURE_GRACE_S", 0.3)
    left = "note(0, 0, 'finished')\nnote(1, 0, 'finished')\n"
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("train", left + SLEEP, processes=2))
    assert local.run(run_dir, Silent()) == Exit.DONE
    assert processes.survivors(run_dir, "demo-0001") == ()


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("note('prepare', 2, 'data', 'train.jsonl:3: no `text`')\nsys.exit(2)", DataError, "train.jsonl:3: no `text`"),
        ("note('prepare', 4, 'environment', 'no tokenizer')\nsys.exit(4)", EnvironmentFault, "no tokenizer"),
        ("note('prepare', 6, 'disk_full', 'the disk is full')\nsys.exit(6)", EnvironmentFault, "the disk is full"),
        ("print('boom')\nsys.exit(6)", RunFailed, "preparing the data ended with exit code 6"),
        ("os.kill(os.getpid(), 9)", MachineFailed, f"preparing the data ended with SIGKILL ({ONCE})"),
    ],
)
def test_a_failed_prepare_keeps_its_own_words_and_nothing_is_trained(script, kind, message, tmp_path):
    """The exit code says whether recipe, machine or program is at fault."""
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("prepare", script), stages.job("train", SLEEP))
    with pytest.raises(kind) as caught:
        local.run(run_dir, Silent())
    assert caught.value.message.splitlines()[0] == message
    assert not (run_dir.root / "started").exists()


def test_the_evidence_is_the_end_of_the_log(tmp_path):
    """The last lines say most; a progress bar counts as its last state; blank lines say nothing."""
    log = tmp_path / "rank-0.log"
    log.write_text("\n".join(f"line {n}" for n in range(20)) + "\n\n10%\r100%\n")
    assert outcome.tail(log) == (*(f"line {n}" for n in range(13, 20)), "100%")
    assert outcome.tail(tmp_path / "none") == ()


READY = "open(f'{run}/data.json', 'w').write('{}')\nnote('prepare', 0, 'finished')"


def test_preparing_alone_runs_no_other_stage_and_the_run_goes_on_from_there(tmp_path):
    """`launcher prepare` is the first stage of the same run; `launcher run` does not repeat it."""
    train = "open(f'{run}/trained', 'w').close()\nnote(0, 0, 'finished')"
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("prepare", READY), stages.job("train", train))
    assert local.prepare(run_dir, Silent()) == Exit.DONE
    assert state.derive(run_dir) == state.State("prepared")
    assert not (run_dir.root / "trained").exists()
    assert not run_dir.done.exists()

    assert local.run(run_dir, Silent()) == Exit.DONE
    assert (run_dir.root / "trained").exists()
    said = [(each["stage"], each["state"]) for each in events.read(run_dir.events) if each["event"] == "stage"]
    assert said == [
        ("prepare", "started"), ("prepare", "done"), ("prepare", "skipped"), ("train", "started"), ("train", "done"),
    ]  # fmt: skip


def test_data_that_is_ready_needs_no_attempt(tmp_path):
    """Looking twice must not fill the history of a run."""
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("prepare", READY))
    plan = json.loads(run_dir.plan.read_text())
    run_dir.plan.write_text(json.dumps({**plan, "identity": {}}))
    assert [local.prepare(run_dir, Silent()) for _ in range(3)] == [Exit.DONE] * 3
    assert attempts.numbers(run_dir) == (1,)


def test_a_run_that_changed_hands_is_not_run_by_the_wrong_launcher(tmp_path):
    """Between the choice and the lock another launcher may have given it another recipe."""
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("prepare", READY))
    with pytest.raises(local.Superseded):
        local.run(run_dir, Silent(), identity={"seed": 2})
    assert attempts.numbers(run_dir) == ()
    assert local.run(run_dir, Silent(), identity={}) == Exit.DONE


SAYS = """
open(f"{run}/events.jsonl", "a").write('{"event": "progress", "what": "chat: tokenising", "share": 0.5}\\n')
for _ in range(200):
    if os.path.exists(f"{run}/seen"):
        break
    time.sleep(0.05)
else:
    sys.exit("nobody looked")
"""


def test_what_a_stage_says_of_itself_is_shown_while_it_works(tmp_path):
    """Without it, an hour of tokenising looks like a hang. The stage ends only when it has been seen."""
    run_dir = stages.run_dir(tmp_path / "demo", stages.job("prepare", SAYS + READY))

    class Watching(Silent):
        def event(self, event):
            if event.get("share") == 0.5:
                (run_dir.root / "seen").touch()

    assert local.prepare(run_dir, Watching()) == Exit.DONE
