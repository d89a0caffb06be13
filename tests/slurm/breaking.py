"""What breaks below a run: nodes, daemons, the controller, single processes, ports. Each function is one trial."""

from __future__ import annotations

import shutil
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

from launcher.runs import preflight, submissions
from tests.slurm.lab import ENDED
from tests.slurm.processes import Process
from tests.slurm.scene import Scene, attempts_of
from tests.slurm.site import Tracked
from tests.support.until import until


def node_lost(scene: Scene) -> None:
    """One of two nodes loses its power: the run goes on on others, and that one is kept out."""
    run = scene.submit(nodes=2)
    run.until_step(scene.a_step(12))
    number = scene.random.choice(_nodes(scene, run))
    scene.lab.power_off(number)
    scene.ends_equal(run, 2)
    assert number not in _nodes(scene, run)
    assert scene.lab.site.node(number) in run.run_dir.excluded.read_text(), run.story()


def slurmd_killed(scene: Scene) -> None:
    """The daemon of its node dies and SLURM gives the node up: the run goes on on another one."""
    run = scene.submit()
    run.until_step(scene.a_step(12))
    (number,) = _nodes(scene, run)
    scene.lab.kill_slurmd(number)
    scene.lab.give_up(number)
    first, _second = scene.ends_equal(run, 2)
    assert (first.cause, first.error) == ("infrastructure", f"node {scene.lab.site.node(number)}: SLURM lost it")
    assert scene.lab.job(run.job())["Restarts"] == "1"


def node_cut_off(scene: Scene) -> None:
    """Its node loses the network and is given up, and the run lives on there: the next turn asks it to leave, and no step is lost."""
    run = scene.submit()
    run.until_step(scene.a_step(2, 30))
    (number,) = _nodes(scene, run)
    scene.lab.cut_off(number)
    scene.lab.give_up(number)
    until(lambda: run.attempts() == 2, seconds=120)
    scene.lab.plug_in(number)
    first, second = scene.ends_equal(run, 2)
    assert first.cause == "stopped"
    assert second.from_step == run.steps(1)[-1][0], "a step was lost"
    assert scene.lab.job(run.job())["Restarts"] == "1"


def controller_away(scene: Scene) -> None:
    """slurmctld is down for half a minute while the run trains."""
    run = scene.submit(step_s=0.4)
    run.until_step(scene.a_step(2, 10))
    _away(scene, 30)
    scene.ends_equal(run, 1)


def controller_away_at_requeue(scene: Scene) -> None:
    """slurmctld is down when the run has left and wants another turn."""
    run = scene.submit()
    run.until_step(scene.a_step(2, 30))
    scene.lab.run(["scancel", "--batch", "--signal=USR1", run.job()])
    until(lambda: run.said("stop"))
    _away(scene, 20)
    first, _second = scene.ends_equal(run, 2)
    assert first.cause == "stopped"


def answer_lost(scene: Scene) -> None:
    """sbatch submits, and says that the controller did not answer: there is one job, whatever is typed."""
    shim = scene.login.folder / "bin" / "sbatch"
    shim.parent.mkdir(exist_ok=True)
    real = shutil.which("sbatch", path=scene.lab.env["PATH"])
    fault = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    shim.write_text(
        f'#!/bin/bash\n[[ " $* " == *" --test-only "* ]] && exec {real} "$@"\n{real} "$@" >/dev/null\necho "{fault}" >&2\nexit 1\n'
    )
    shim.chmod(0o755)
    path = scene.lab.env["PATH"]
    scene.lab.env["PATH"] = f"{shim.parent}:{path}"
    try:
        run = scene.submit()
        scene.login.launcher("run", scene.name)
    finally:
        scene.lab.env["PATH"] = path
    scene.ends_equal(run, 1)
    assert scene.jobs() == [run.job()]


def batch_shell_killed(scene: Scene) -> None:
    """SLURM ends the job; the run has saved, says so, and goes on when asked."""
    run = _struck(scene, "slurm_script")
    assert scene.nothing_is_left(run)["JobState"] == "FAILED"
    _goes_on_by_hand(scene, run)


def launcher_killed(scene: Scene) -> None:
    """The launcher in the job is killed: the job fails, and says so."""
    run = _struck(scene, "launcher.executors.slurm.slice")
    assert scene.nothing_is_left(run)["JobState"] == "FAILED"
    assert "was killed" in scene.login.launcher("status", scene.name).stdout
    _goes_on_by_hand(scene, run)


def srun_killed(scene: Scene) -> None:
    """What it started is ended, and started again in the same job."""
    _machine_fault(scene, _struck(scene, "srun", nodes=2))


def torchrun_killed(scene: Scene) -> None:
    """On one of the nodes."""
    _machine_fault(scene, _struck(scene, "launcher.worker.torchrun", nodes=2))


def rank_killed(scene: Scene) -> None:
    """On one of the nodes."""
    _machine_fault(scene, _struck(scene, "-u", "launcher.worker", nodes=2))


def daemon_of_the_step_killed(scene: Scene) -> None:
    """slurmstepd dies, its ranks live on; nobody tells srun when they have left."""
    run = scene.submit()
    run.until_step(scene.a_step())
    _kill(scene, "slurmstepd:", f"[{run.job()}.0]")
    scene.ends_equal(run, 1)


def daemon_of_the_batch_killed(scene: Scene) -> None:
    """slurmstepd of the batch script dies: the run ends all the same, SLURM does not hear of it and gives it another turn for nothing."""
    run = scene.submit()
    run.until_step(scene.a_step())
    _kill(scene, "slurmstepd:", f"[{run.job()}.batch]")
    scene.ends_equal(run, 1)
    assert scene.lab.job(run.job())["Restarts"] == "1"


def fails_by_itself(scene: Scene) -> None:
    """A bug would come again, so it is not tried again."""
    run = scene.submit(save_s=-1)
    job = scene.nothing_is_left(run)
    assert (job["JobState"], job["Restarts"], run.attempts()) == ("FAILED", "0", 1), run.story()
    assert "is not to be" in scene.login.launcher("status", scene.name).stdout


def fails_where_turns_wait(scene: Scene) -> None:
    """On a site where all turns are queued up front, a bug cancels those that are left."""
    run = scene.submit(save_s=-1, launch={"max_requeues": 2}, profile={"requeue": False})
    turns = [int(str(each.job_id)) for each in submissions.read(run.run_dir)]
    assert len(turns) == 3
    states = [scene.lab.wait(each, ENDED, timeout=120)["JobState"] for each in turns]
    assert states == ["FAILED", "CANCELLED", "CANCELLED"], run.story()
    assert run.attempts() == 1


def no_progress(scene: Scene) -> None:
    """A rank that is killed before its first step, each time: after three attempts the run ends with 93 and says so."""
    run = scene.submit()
    dead: set[int] = set()

    def strike() -> bool:
        for each in _processes(scene, "-u", "launcher.worker"):
            if each.pid not in dead:
                each.send(signal.SIGKILL)
                dead.add(each.pid)
        return run.over()

    until(strike, seconds=300)
    job = scene.nothing_is_left(run)
    assert job["ExitCode"] == "93:0", run.story()
    assert [each.cause for each in attempts_of(run)] == ["infrastructure"] * 3
    assert "no progress in 3 attempts" in scene.login.launcher("status", scene.name).stdout


def port_taken(scene: Scene) -> None:
    """Others listen where the ranks would meet: the next ports are tried."""
    taker = scene.taker(600)
    scene.lab.wait(taker, "RUNNING")
    run = scene.submit(nodes=2)  # it waits, so that its number is known before it looks for a port
    ports = [20000 + (run.job() + place * 997) % (_ephemeral() - 20000) for place in range(4)]
    with ExitStack() as held:
        for port in ports[:3]:
            held.enter_context(_listener(port))
        scene.lab.run(["scancel", taker])
        scene.ends_equal(run, 1)
    assert preflight.read(run.run_dir, 1, 0).port == ports[3]


def port_taken_after_the_look(scene: Scene) -> None:
    """Somebody takes it between the preflight and the meeting: the next attempt meets elsewhere."""
    run = scene.submit(nodes=2)
    report = until(lambda: preflight.read(run.run_dir, 1, 0) if run.attempts() else None, seconds=120)
    held = until(lambda: _taken(report.port), seconds=30)
    try:
        first, _second = scene.ends_equal(run, 2)
    finally:
        held.close()
    assert first.cause == "infrastructure"


def _struck(scene: Scene, *words: str, nodes: int = 1) -> Tracked:
    run = scene.submit(nodes=nodes)
    run.until_step(scene.a_step(12))
    _kill(scene, *words)
    return run


def _kill(scene: Scene, *words: str) -> None:
    found = _processes(scene, *words)
    assert found, "\n".join(map(str, scene.lab.processes()))
    scene.random.choice(found).send(signal.SIGKILL)


def _processes(scene: Scene, *words: str) -> list[Process]:
    """Those of this name, else with all these words on their command line; of a parent and its copy, the parent."""
    every = scene.lab.processes()
    named = [each for each in every if each.name == words[0]]
    found = named or [each for each in every if set(words) <= set(str(each).split())]
    return [each for each in found if each.parent not in {other.pid for other in found}]


def _machine_fault(scene: Scene, run: Tracked) -> None:
    first, _second = scene.ends_equal(run, 2)
    assert first.cause == "infrastructure"
    assert scene.lab.job(run.job())["Restarts"] == "0"


def _goes_on_by_hand(scene: Scene, run: Tracked) -> None:
    assert run.attempts() == 1
    assert f"launcher run {scene.name}" in scene.login.launcher("status", scene.name).stdout
    scene.login.launcher("run", scene.name)
    scene.ends_equal(run, 2)


def _away(scene: Scene, seconds: float) -> None:
    scene.lab.stop_controller()
    back = time.monotonic() + seconds
    until(lambda: time.monotonic() > back, seconds=seconds + 10)
    scene.lab.start_controller()


def _nodes(scene: Scene, run: Tracked) -> list[int]:
    """Numbers of the nodes of its job."""
    names = scene.lab.run(["scontrol", "show", "hostnames", scene.lab.job(run.job())["NodeList"]]).stdout.split()
    return [int(name.rpartition("node")[2]) for name in names]


def _ephemeral() -> int:
    """The first port that this machine gives to anybody who asks."""
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def _listener(port: int) -> socket.socket:
    taken = socket.socket()
    taken.bind(("", port))
    taken.listen()
    return taken


def _taken(port: int) -> socket.socket | None:
    try:
        return _listener(port)
    except OSError:
        return None
