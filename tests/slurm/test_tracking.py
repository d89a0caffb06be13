"""What a person on a login node sees of runs in the queue, and how they are stopped: on the real cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.runs import submissions
from tests.slurm.lab import ROOT, Lab
from tests.slurm.site import Login, Tracked
from tests.support.until import until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


@pytest.fixture
def login(cluster: Lab, tmp_path_factory: pytest.TempPathFactory) -> Login:
    return Login(cluster, tmp_path_factory.mktemp("login"))


@pytest.fixture
def chained(cluster: Lab, tmp_path_factory: pytest.TempPathFactory) -> Login:
    """A site where data is prepared by a job of its own."""
    return Login(cluster, tmp_path_factory.mktemp("chained"), {"stages": {"prepare": "job"}})


@pytest.fixture
def busy(cluster: Lab) -> int:
    """All nodes are taken, by this job: what is submitted waits."""
    number = cluster.sbatch("#!/bin/bash\nsleep 600", "-p", "high", "-N4", "--exclusive")
    cluster.wait(number, "RUNNING")
    return number


def status(login: Login, name: str) -> dict:
    return json.loads(login.launcher("status", name, "--json").stdout)


def table(login: Login) -> list[list[str]]:
    """Rows of `launcher status`, their columns apart."""
    lines = login.launcher("status").stdout.splitlines()
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def ids(run: Tracked) -> list[str]:
    return [str(each.job_id) for each in submissions.last_chain(run.run_dir)]


def states(login: Login, *jobs: object) -> set[str]:
    return {login.lab.job(int(str(number)))["JobState"] for number in jobs}


def following(login: Login, name: str, folder: Path) -> tuple[subprocess.Popen[bytes], Path, Path]:
    """`launcher logs NAME -f` in the background, with the files that it writes to."""
    out, err = folder / "out", folder / "err"
    env = {**login.lab.env, "LAUNCHER_RUNS": str(login.folder / "runs"), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "launcher", "logs", name, "-f"]
    with out.open("wb") as one, err.open("wb") as two:
        return subprocess.Popen(argv, env=env, cwd=login.folder, stdout=one, stderr=two), out, err


def test_status_tells_of_all_runs_with_one_question(chained: Login, busy: int, monkeypatch: pytest.MonkeyPatch):
    """A chain and a run of one job, both in the queue; squeue is asked once for all of them."""
    chain = chained.submit(chained.recipe("chain"))
    other = chained.submit(chained.recipe("other", training={"learning_rate": 2.0e-3}))
    asked = chained.folder / "asked"
    shim = chained.folder / "bin" / "squeue"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/bash\necho "$@" >> {asked}\nexec {shutil.which("squeue")} "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setitem(chained.lab.env, "PATH", f"{shim.parent}:{chained.lab.env['PATH']}")

    _, first, second = table(chained)

    assert first[:3] == ["chain", f"test:main {ids(chain)[0]}", "queued: Resources"]
    assert second[:2] == ["other", f"test:main {ids(other)[0]}"]
    assert len(asked.read_text().splitlines()) == 1
    jobs = status(chained, "chain")["slurm"]["jobs"]
    assert [(each["stage"], each["state"], each["after"]) for each in jobs] == [
        ("prepare", "PENDING", []),
        ("train", "PENDING", [ids(chain)[0]]),
    ]
    screen = chained.launcher("status", "chain").stdout
    assert "Resources: it is next, when enough nodes are free" in screen
    assert f"after {ids(chain)[0]}" in screen


def test_stop_takes_the_whole_chain_out_and_run_submits_it_anew(chained: Login, busy: int):
    run = chained.submit(chained.recipe("chain"))
    first = ids(run)

    said = chained.launcher("stop", "chain", "--wait", "30").stdout

    assert "stopped (cancelled before it started)" in said
    assert states(chained, *first) == {"CANCELLED"}
    assert status(chained, "chain")["reason"] == "cancelled before it started"
    assert "is not running: stopped" in chained.launcher("stop", "chain").stdout
    chained.launcher("run", "chain")
    assert not set(ids(run)) & set(first)
    assert states(chained, *ids(run)) == {"PENDING"}
    assert not run.run_dir.stop_request.exists()


def test_scancel_takes_what_waits_behind_with_it(chained: Login, busy: int):
    """And status tells it from a wish of the launcher's own."""
    run = chained.submit(chained.recipe("chain"))
    chained.lab.run(["scancel", ids(run)[0]])
    until(lambda: states(chained, *ids(run)) == {"CANCELLED"})
    assert status(chained, "chain")["state"] == "stopped"
    assert status(chained, "chain")["reason"] == "cancelled with scancel before it started"


def test_without_a_controller_status_and_stop_say_so_and_do_what_they_can(login: Login, busy: int):
    """In ten seconds; the wish stays, so that a job that starts meanwhile leaves at once."""
    run = login.submit(login.recipe("away"))
    login.lab.stop_controller()
    began = time.monotonic()
    shown = login.launcher("status").stdout.splitlines()
    assert time.monotonic() - began < 10
    assert "queued: by its files" in shown[1]
    assert shown[-1].endswith("this is what the files of the run say")

    refused = login.launcher("stop", "away", check=False)

    assert refused.returncode == 5
    assert "what waits in the queue could not be cancelled" in refused.stderr
    assert f"`launcher stop away`, or `scancel {ids(run)[0]}`" in refused.stderr
    assert run.run_dir.stop_request.read_text() == "person"
    login.lab.start_controller()
    login.launcher("stop", "away")
    assert states(login, *ids(run)) == {"CANCELLED"}


def test_a_held_run_names_the_command_that_lets_it_go(login: Login, busy: int):
    run = login.submit(login.recipe("held"))
    login.lab.run(["scontrol", "uhold", ids(run)[0]])
    shown = status(login, "held")
    assert (shown["state"], shown["reason"]) == ("queued", "JobHeldUser")
    assert f"scontrol release {ids(run)[0]}" in login.launcher("status", "held").stdout


def test_a_job_that_dies_before_the_launcher_begins_is_told_with_its_log(
    cluster: Lab, tmp_path_factory: pytest.TempPathFactory
):
    """An interpreter that is not there: nothing of the run's own can say what happened."""
    login = Login(cluster, tmp_path_factory.mktemp("broken"), {"python": "/nowhere/python"})
    run = login.submit(login.recipe("broken"))
    run.until_over()
    shown = status(login, "broken")
    assert shown["state"] == "failed"
    assert "its job failed before the launcher could say why" in shown["reason"]
    assert "launcher logs broken --job" in login.launcher("status").stdout
    assert "/nowhere/python" in login.launcher("logs", "broken", "--job").stdout
    assert "/nowhere/python" in login.launcher("logs", "broken").stdout


def test_a_job_that_slurm_cannot_start_is_told_as_that(login: Login, busy: int):
    """The folder of its log is gone: SLURM says JobLaunchFailure, and there is no log anywhere."""
    run = login.submit(login.recipe("launch"))
    shutil.rmtree(run.run_dir.job_logs)
    login.lab.run(["scancel", busy])
    until(lambda: status(login, "launch")["state"] == "failed")
    assert "could not start the job on its node" in status(login, "launch")["reason"]


def test_following_a_run_that_waits_says_so_once_and_ends_when_it_is_stopped(login: Login, busy: int, tmp_path: Path):
    login.submit(login.recipe("waits"))
    reader, out, err = following(login, "waits", tmp_path)
    until(err.read_text)
    time.sleep(3)  # it asks again after two seconds
    assert reader.poll() is None
    login.launcher("stop", "waits")
    assert reader.wait(40) == 4  # there is no log, and there will be none
    first, *rest = err.read_text().splitlines()
    assert first.startswith("waits waits in the queue (job ")
    assert [line for line in rest if "queue" in line] == []
    assert out.read_text() == ""


def test_a_run_from_turn_to_turn(login: Login, tmp_path: Path):
    """Training, preempted, in the queue with what it has saved; followed all the time; stopped between its turns, and for good."""
    run = login.submit(login.recipe("turns", training={"max_steps": 5000}), "low")
    reader, out, err = following(login, "turns", tmp_path)
    run.until_step(12)
    shown = status(login, "turns")
    job = shown["slurm"]["jobs"][0]
    assert (shown["state"], job["state"], shown["where"]) == ("running", "RUNNING", f"test:low {run.job()}")
    assert 0 < job["seconds_left"] <= 600
    assert "low" in table(login)[1][1]
    assert table(login)[1][2] == "training"

    taker = login.lab.sbatch("#!/bin/bash\nsleep 600", "-p", "high", "-N4", "--exclusive")
    until(lambda: status(login, "turns")["state"] == "queued", seconds=60)

    shown = status(login, "turns")
    assert shown["attempts"][0]["left_for"] == "preempted"
    assert shown["attempts"][0]["code"] == 85
    saved = shown["checkpoint_step"]
    assert saved == run.steps()[-1][0]
    until(lambda: "turns waits in the queue" in err.read_text())
    assert reader.poll() is None

    login.launcher("stop", "turns")

    assert states(login, run.job()) == {"CANCELLED"}
    assert status(login, "turns")["reason"] == f"cancelled, saved {saved}"
    assert reader.wait(60) == 0
    assert "'loss'" in out.read_text()
    login.lab.run(["scancel", taker])
    again = login.submit(login.folder / "turns.yaml", "main", "--set", "training.max_steps=5000")
    again.until_step(saved + 3)
    assert status(login, "turns")["slurm"]["jobs"][0]["where"] == "test:main"
    login.lab.run(["scancel", again.job()])
    again.until_over(seconds=60)
    until(lambda: status(login, "turns")["state"] == "stopped", seconds=30)
    assert status(login, "turns")["reason"].startswith("cancelled with scancel, saved ")
    assert login.lab.job(again.job())["Restarts"] == "0"


def test_stop_of_a_running_run_saves_and_cancels_what_waits_behind(
    cluster: Lab, tmp_path_factory: pytest.TempPathFactory
):
    """A site without requeue queues all turns up front."""
    login = Login(cluster, tmp_path_factory.mktemp("norequeue"), {"requeue": False})
    recipe = login.recipe("front", training={"max_steps": 5000}, launch={"nodes": 1, "max_requeues": 2})
    run = login.submit(recipe)
    assert len(ids(run)) == 3
    run.until_step(5)
    said = login.launcher("stop", "front", "--wait", "60").stdout
    assert "stopped (saved)" in said
    run.until_over()
    assert [login.lab.job(int(number))["JobState"] for number in ids(run)] == ["FAILED", "CANCELLED", "CANCELLED"]
    assert run.attempts() == 1
    assert status(login, "front")["state"] == "stopped"


@pytest.mark.parametrize("accounting", [False, True])
def test_a_job_that_the_controller_has_forgotten(
    make_lab: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory, accounting: bool
):
    """By sacct where the site has it; else as what it is: gone without a word."""
    lab = make_lab(accounting=accounting, nodes=1, extra=("MinJobAge=2",))
    login = Login(lab, tmp_path_factory.mktemp("forgotten"), {"python": "/nowhere/python"})
    run = login.submit(login.recipe("gone", launch={"nodes": 1}))
    lost = ["scontrol", "-o", "show", "job", str(run.job())]
    until(lambda: lab.run(lost, check=False).returncode, seconds=200)
    shown = status(login, "gone")
    assert shown["state"] == "failed"
    assert shown["slurm"]["jobs"][0]["state"] == ("FAILED" if accounting else "UNKNOWN")
    word = "before the launcher could say why" if accounting else "SLURM has forgotten the job"
    assert word in shown["reason"]


def test_a_job_of_the_same_number_on_another_cluster_is_not_taken_for_ours(login: Login, busy: int):
    """Seen from a login node of this cluster, which has a job of that number, too; `stop` must not touch it."""
    run = login.submit(login.recipe("elsewhere"))
    ours = submissions.read(run.run_dir)[0]
    theirs = json.loads(run.run_dir.submissions.read_text())
    theirs["jobs"][0]["key"] = "another"
    run.run_dir.submissions.write_text(json.dumps(theirs))
    assert status(login, "elsewhere")["slurm"]["jobs"][0]["state"] == "UNKNOWN"
    login.launcher("stop", "elsewhere")
    assert states(login, ours.job_id) == {"PENDING"}


def test_a_login_node_without_slurm_says_so(login: Login, busy: int):
    """The runs folder may be mounted anywhere."""
    login.submit(login.recipe("seen"))
    env = {
        name: value for name, value in os.environ.items() if name not in ("SLURM_CONF", "PATH")
    } | {"PATH": "/nowhere", "LAUNCHER_RUNS": str(login.folder / "runs"), "PYTHONPATH": str(ROOT)}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "launcher", "status"], env=env, capture_output=True, text=True, check=True
    )
    assert "`squeue` is not on this machine; this is what the files of the run say" in done.stdout
