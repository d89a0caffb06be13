"""What SLURM and people do to a run on purpose: limits, preemption, requeue, cancellation. Each function is one trial."""

from __future__ import annotations

from launcher.runs import checkpoints, events, grace, state
from tests.slurm.scene import STEPS, Scene, attempts_of
from tests.slurm.site import Tracked
from tests.support.until import until


def time_limit(scene: Scene) -> None:
    """Two minutes are less than it needs: each turn leaves in time, by itself, and the next one goes on."""
    run = scene.submit(step_s=1.7, launch={"time_limit": "00:02:00", "max_requeues": 20})
    until(lambda: run.attempts() == 2 or run.over(), seconds=300)
    scene.slow()
    run.until_done(seconds=600)
    tried = attempts_of(run)
    assert [each.left_for for each in tried] == ["time limit"] * (len(tried) - 1) + [None], run.story()
    assert len(tried) > 1, run.story()
    assert [step for step, _ in run.steps()] == list(range(1, STEPS + 1)), "a step was lost"
    scene.is_equal(run)
    assert scene.nothing_is_left(run)["Restarts"] == str(len(tried) - 1)


def preempted(scene: Scene) -> None:
    """With grace: the step under way is saved, none is lost."""
    run = scene.submit("low")
    run.until_step(scene.a_step())
    scene.taker()
    first, second = scene.ends_equal(run, 2)
    assert (first.cause, first.left_for) == ("stopped", "preempted")
    assert second.from_step == run.steps(1)[-1][0], "a step was lost"


def preempted_at_once(scene: Scene) -> None:
    """Without grace it has KillWait; saved or not, it goes on from its newest checkpoint."""
    run = scene.submit("low_nograce")
    run.until_step(scene.a_step())
    scene.taker()
    _first, second = scene.ends_equal(run, 2)
    assert second.from_step >= _last_commit(run, 1)


def requeued(scene: Scene) -> None:
    """By an administrator."""
    run = scene.submit()
    run.until_step(scene.a_step())
    scene.lab.run(["scontrol", "requeue", run.job()])
    _first, second = scene.ends_equal(run, 2)
    assert second.from_step >= _last_commit(run, 1)
    assert scene.lab.job(run.job())["Restarts"] == "1"


def cancelled(scene: Scene) -> None:
    """`scancel` is final, and saves what its grace allows."""
    run = scene.submit()
    run.until_step(step := scene.a_step())
    scene.lab.run(["scancel", run.job()])
    job = scene.nothing_is_left(run)
    assert (job["JobState"], job["Restarts"]) == ("CANCELLED", "0")
    assert "stopped" in scene.login.launcher("status", scene.name).stdout.splitlines()[0]
    assert run.attempts() == 1
    newest = checkpoints.newest(run.run_dir).checkpoint
    assert newest, run.story()
    assert newest.step == run.steps()[-1][0] >= step


def stopped_between_turns(scene: Scene) -> None:
    """`run` typed while it waits submits nothing; a person's wish takes it out of the queue; a person's start goes on."""
    run = scene.submit(scene.random.choice(("low", "low_nograce")))
    run.until_step(scene.a_step())
    taker = scene.taker(600)
    until(lambda: scene.lab.job(run.job())["JobState"] == "PENDING", seconds=60)
    scene.login.launcher("run", scene.name)
    assert scene.jobs() == [run.job()]
    scene.login.launcher("stop", scene.name, "--wait", "30")
    assert scene.lab.job(run.job())["JobState"] == "CANCELLED"
    assert state.derive(run.run_dir).name == "stopped", run.story()
    scene.lab.run(["scancel", taker])
    scene.login.launcher("run", scene.name)
    scene.ends_equal(run, 2)


def grace_is_too_short(scene: Scene) -> None:
    """A save takes longer than KillWait: an older checkpoint serves, and log, status and report say what it needs."""
    run = scene.submit("low_nograce", step_s=0.4, save_s=20)
    run.until_saved(seconds=300)
    scene.taker()
    first, second = scene.ends_equal(run, 2)
    assert first.cause is None, "it lived to say how it ended"
    assert second.from_step == _last_commit(run, 1)
    (short,) = grace.shortfalls(events.read(run.run_dir.events), attempts_of(run))
    assert short.needed_s is not None
    assert short.needed_s > 30  # half as much again as the 20 s of the save
    said = f"needs {short.needed_s} s"
    assert said in scene.lab.log(run.job())
    assert said in scene.login.launcher("status", scene.name).stdout
    assert said in run.run_dir.report.read_text()


def _last_commit(run: Tracked, attempt: int) -> int:
    """Step of the last checkpoint that an attempt has told of."""
    now, step = 0, 0
    for event in events.read(run.run_dir.events):
        now = event["attempt"] if event["event"] == "attempt" else now
        step = event["step"] if event["event"] == "commit" and now <= attempt else step
    return step
