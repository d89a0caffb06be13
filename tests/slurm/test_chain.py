"""The stages of a run as a chain of jobs on the real cluster."""

from __future__ import annotations

import json
import shutil

import pytest

from launcher.runs import submissions
from launcher.runs.paths import RunDir
from tests.slurm.site import PROFILE, Login, Tracked, copy_project, reference
from tests.support.until import until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

CHAIN = {
    "data": {"eval_datasets": [{"label": "held_out", "from": "sums", "fraction": 0.1}]},
    "export": {"merge": True},
    "launch": {"nodes": 1},
}
STAGES = {"prepare": "job", "evaluate": "job", "export": "job"}


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("login")


def dependency(run: Tracked, stage: str) -> str:
    return run.lab.job(run.job(stage))["Dependency"]


def test_four_stages_are_four_jobs(cluster, folder):
    login = Login(cluster, folder, {"stages": STAGES})
    run = login.submit(login.recipe("chain", **CHAIN))
    jobs = submissions.read(run.run_dir)
    assert [each.stage for each in jobs] == ["prepare", "train", "evaluate", "export"]
    assert [each.after for each in jobs] == [(), *((each.job_id,) for each in jobs[:3])]
    for before, stage in zip(jobs, ("train", "evaluate", "export"), strict=False):
        assert dependency(run, stage).startswith(f"afterok:{before.job_id}")
    until(run.run_dir.done.exists, seconds=200)
    cluster.wait(run.job("export"), timeout=60)
    assert (run.run_dir.evals / "final.json").exists()
    assert (run.run_dir.merged / "model.safetensors").exists()
    assert [cluster.job(int(each.job_id))["JobState"] for each in jobs] == ["COMPLETED"] * 4, run.story()


def test_a_stage_that_fails_stops_those_behind_it(cluster, folder):
    login = Login(cluster, folder, {"stages": STAGES})
    recipe = login.recipe("broken", **CHAIN)
    login.launcher("run", recipe, "--cluster", "test")
    (folder / "sums.jsonl").write_text("this is no JSON\n")
    run = login.tracked("broken")
    for stage in ("train", "evaluate", "export"):
        cluster.wait(run.job(stage), "CANCELLED", timeout=120)
    cluster.wait(run.job("prepare"), "FAILED", timeout=60)
    seen = json.loads(login.launcher("status", "broken", "--json").stdout)
    assert seen["state"] == "failed"
    assert "sums.jsonl:1" in seen["reason"]


def test_where_requeues_are_forbidden_jobs_are_queued_up_front(make_lab, folder):
    lab = make_lab(requeue=False)
    login = Login(lab, folder, {"requeue": False})
    recipe = login.recipe("turns", launch={"max_requeues": 2})
    run = login.submit(recipe)
    turns = [int(each.job_id) for each in submissions.read(run.run_dir)]
    assert len(turns) == 3
    assert [lab.job(each)["Dependency"].partition("(")[0] for each in turns[1:]] == [
        f"afterany:{each}" for each in turns[:2]
    ]
    run.until_step(15)
    lab.run(["scancel", "--batch", "--signal=USR1", turns[0]])  # as before the time limit
    lab.wait(turns[0], "FAILED", timeout=60)
    run.until_done()
    lab.wait(turns[1], "COMPLETED", timeout=60)
    lab.wait(turns[2], "CANCELLED", timeout=60)  # nothing is left for it
    whole = reference(folder / "here", login.recipe("turns", launch={"max_requeues": 2}), 2)
    assert run.losses() == whole.losses()
    assert run.weights() == whole.weights()


def test_stages_behind_turns_that_are_not_needed_run(make_lab, folder):
    """The last turn is cancelled, and what waits for it by `afterok` must not go with it."""
    lab = make_lab(requeue=False)
    login = Login(lab, folder, {"requeue": False, "stages": STAGES})
    run = login.submit(login.recipe("behind", **{**CHAIN, "launch": {"nodes": 1, "max_requeues": 1}}))
    until(lambda: run.run_dir.done.exists() or lab.job(run.job("export"))["JobState"] == "CANCELLED", seconds=300)
    lab.wait(run.job("export"), "COMPLETED", timeout=60)
    assert [each.over for each in submissions.read(run.run_dir) if each.turn] == ["NOT_NEEDED"]


def test_a_chain_whose_submission_was_killed_is_completed(cluster, folder):
    """As after a login shell that died between two jobs."""
    login = Login(cluster, folder, {"stages": STAGES})
    run = login.submit(login.recipe("half", **CHAIN))
    ledger = json.loads(run.run_dir.submissions.read_text())
    cluster.run(["scancel", *(each["job_id"] for each in ledger["jobs"][2:])])
    run.run_dir.submissions.write_text(json.dumps({"jobs": ledger["jobs"][:2]}))
    login.launcher("run", "half")
    jobs = submissions.read(run.run_dir)
    assert [each.stage for each in jobs] == ["prepare", "train", "evaluate", "export"]
    assert dependency(run, "evaluate").startswith(f"afterok:{jobs[1].job_id}")
    login.launcher("run", "half")
    assert len(submissions.read(run.run_dir)) == 4, "submitted twice"
    login.launcher("stop", "half")


def test_scancel_is_final_where_jobs_are_queued_up_front(make_lab, folder):
    """SLURM starts the next turn all the same, behind whatever end of the one before."""
    lab = make_lab(requeue=False)
    login = Login(lab, folder, {"requeue": False})
    run = login.submit(login.recipe("turns", launch={"nodes": 1, "max_requeues": 2}))
    turns = [int(each.job_id) for each in submissions.read(run.run_dir)]
    run.until_step(5)
    lab.run(["scancel", turns[0]])
    lab.wait(turns[1], "FAILED", timeout=120)
    lab.wait(turns[2], "CANCELLED", timeout=60)
    assert run.attempts() == 1, run.story()
    assert json.loads(login.launcher("status", "turns", "--json").stdout)["state"] == "stopped"
    login.launcher("run", "turns")
    run.until_done()


def test_a_copied_run_goes_on_on_another_cluster(make_lab, cluster, folder, tmp_path_factory):
    other = make_lab()
    login = Login(cluster, folder)
    run = login.submit(login.recipe("moved"))
    run.until_step(15)
    login.launcher("stop", "moved", "--wait", "60")
    there = tmp_path_factory.mktemp("there")
    copy_project(folder, there)
    shutil.copytree(folder / "runs" / "moved", there / "runs" / "moved", ignore=shutil.ignore_patterns("lock"))
    far = Login(other, there)
    far.write_profile("other", PROFILE)
    far.launcher("run", "moved", "--cluster", "other", "--set", f"model.model_name_or_path={there / 'model'}")
    moved = Tracked(other, RunDir(there / "runs" / "moved"))
    moved.until_done()
    whole = reference(folder / "here", login.recipe("moved"), 2)
    assert moved.losses() == whole.losses()
    assert moved.weights() == whole.weights()


def test_what_is_queued_keeps_its_plan_and_what_is_not_takes_the_profile_as_it_is_now(cluster, folder):
    login = Login(cluster, folder)
    cluster.sbatch("#!/bin/bash\nsleep 300", "-p", "high", "-N4", "--exclusive", "--time=5")
    right = (folder / "clusters" / "test.yaml").read_text()
    recipe = login.recipe("later", launch={"nodes": 1})
    login.write_profile("test", {**PROFILE, "queues": {"main": {"partition": "mian"}}})
    assert login.launcher("run", recipe, "--cluster", "test", check=False).returncode == 5
    (folder / "clusters" / "test.yaml").write_text(right)
    login.launcher("run", "later")
    run = login.tracked("later")
    assert cluster.job(run.job())["Partition"] == "main"

    planned = run.run_dir.plan.read_bytes()
    more = ("--continue", "later", "--allow-change", "training", "--set", "training.max_steps=70")
    login.launcher("run", recipe, "--cluster", "test", *more)
    assert run.run_dir.plan.read_bytes() == planned
    cluster.run(["scancel", run.job()])
    login.launcher("run", recipe, "--cluster", "test", *more)
    assert run.run_dir.plan.read_bytes() != planned
    assert len(submissions.read(run.run_dir)) == 2

    cluster.run(["scancel", run.job()])
    login.launcher("run", "later", "--cluster", "local")
    assert run.run_dir.done.exists()
    assert len(submissions.read(run.run_dir)) == 2
