"""`sbatch slurm/train.sbatch RECIPE`: without a profile, a preempted job saves, comes back and ends at the same result."""

from __future__ import annotations

import sys

import pytest

from launcher.runs.paths import RunDir
from tests.slurm.lab import ROOT
from tests.slurm.site import Login, Tracked, reference

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

SIZE = ("--nodes=2", "--gpus-per-node=0", "--cpus-per-task=1", "--mem-per-cpu=3G", "--time=10")


class ByHand(Tracked):
    """A run whose job nobody has noted."""

    number = 0

    def job(self, stage: str = "train") -> int:
        return self.number


def submitted(login: Login, recipe, *options: str) -> ByHand:
    env = f"--export=NONE,LAUNCHER_PYTHON={sys.executable},PYTHONPATH={ROOT},LAUNCHER_RUNS={login.folder}/runs"
    argv = ["sbatch", "--parsable", *SIZE, env, *options, ROOT / "slurm" / "train.sbatch", recipe]
    run = ByHand(login.lab, RunDir(login.folder / "runs" / recipe.stem))
    run.number = int(login.lab.run(argv, cwd=login.folder).stdout)
    return run


def test_a_preempted_job_comes_back(cluster, tmp_path_factory):
    """Two nodes, as the command line asks for."""
    login = Login(cluster, tmp_path_factory.mktemp("hand"))
    recipe = login.recipe("hand")
    run = submitted(login, recipe, "-p", "low")
    run.until_step(15)
    cluster.sbatch("#!/bin/bash\nsleep 2", "-p", "high", "-N4", "--exclusive", "--time=1")
    run.until_done()

    whole = reference(login.folder / "here", recipe, 2)
    assert run.attempts() == 2
    assert run.steps(2)[0][0] == run.steps(1)[-1][0] + 1, "a step was lost"
    assert run.losses() == whole.losses()
    assert run.weights() == whole.weights()
    log = (login.folder / f"train-{run.number}.log").read_text()
    assert "queued again" in log


def test_without_an_environment_the_job_says_what_to_edit(cluster, tmp_path_factory):
    """The submitter's own does not come along."""
    login = Login(cluster, tmp_path_factory.mktemp("hand"))
    run = submitted(login, login.recipe("none"), "--export=NONE,LAUNCHER_PYTHON=/usr/bin/false")
    job = run.until_over(seconds=60)
    assert job["ExitCode"] == "4:0"
    assert (
        "write the interpreter of your environment behind PYTHON="
        in (login.folder / f"train-{run.number}.log").read_text()
    )


def test_who_submits_it_again_after_a_stop_goes_on(cluster, tmp_path_factory):
    """The wish to stop is older than the job: it holds for turns of the job before, and for nobody else."""
    login = Login(cluster, tmp_path_factory.mktemp("hand"))
    recipe = login.recipe("again")
    first = submitted(login, recipe)
    first.until_step(3)
    login.launcher("stop", "again", "--wait", "60")
    first.until_over()
    assert not first.run_dir.done.exists()

    again = submitted(login, recipe)
    again.until_done()
    assert again.steps(2)[0][0] == first.steps(1)[-1][0] + 1, "a step was lost"
