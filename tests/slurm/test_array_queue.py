"""Arrays in the queue of the real cluster: what is submitted, how it is parted, what is refused; nothing is trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launcher.runs import submissions
from tests.slurm.lab import Lab
from tests.slurm.site import Login

pytestmark = pytest.mark.slurm

ONE = {"nodes": 1}


@pytest.fixture
def login(cluster: Lab, tmp_path_factory: pytest.TempPathFactory):
    """A login node of a site that starts nothing."""
    yield waiting(cluster, tmp_path_factory.mktemp("login"))
    cluster.run(["scontrol", "update", "partitionname=main", "state=up"])


def waiting(lab: Lab, folder: Path, **profile: object) -> Login:
    number = lab.sbatch("#!/bin/bash\nsleep 600", "-p", "high", "-N4", "--exclusive")
    lab.wait(number, "RUNNING")
    return Login(lab, folder, profile)


def run(login: Login, *words: object, check: bool = True):
    return login.launcher("run", *words, "--cluster", "test:main", check=check)


def ids(login: Login) -> dict[str, list[str]]:
    """Run → its jobs that may be queued, as its own ledger has them."""
    runs = [each for each in (login.folder / "runs").iterdir() if not each.name.startswith(".")]
    return {each.name: [job.job_id for job in submissions.alive(login.tracked(each.name).run_dir)] for each in runs}


def queued(login: Login) -> set[str]:
    return set(login.lab.run(["squeue", "-h", "-r", "-p", "main", "-o", "%i"]).stdout.split())


def test_the_same_line_submits_only_what_is_neither_done_nor_queued(login):
    line = (login.recipe("tiny", launch=ONE), "--each", "training.seed=1,2,3")
    said = run(login, *line).stdout
    (array,) = re.findall(r"^array (\d+)  train of 3 runs on test:main$", said, re.MULTILINE)
    names = ["tiny-seed-1", "tiny-seed-2", "tiny-seed-3"]
    assert ids(login) == {name: [f"{array}_{index}"] for index, name in enumerate(names)}
    assert queued(login) == {f"{array}_{index}" for index in range(3)}

    again = run(login, *line)
    assert "3 runs: 3 queued or running already" in again.stderr
    assert len(queued(login)) == 3

    login.launcher("stop", "tiny-seed-2")
    assert queued(login) == {f"{array}_0", f"{array}_2"}, "only this one left the queue"
    said = login.launcher("status", "tiny-seed-2").stdout
    assert "stopped (cancelled before it started)" in said, said

    more = run(login, line[0], "--each", "training.seed=1,2,3,4")
    assert "2 queued or running already" in more.stderr
    (second,) = re.findall(r"^array (\d+)  train of 2 runs", more.stdout, re.MULTILINE)
    assert ids(login)["tiny-seed-2"] == [f"{second}_0"]
    assert ids(login)["tiny-seed-4"] == [f"{second}_1"]
    assert ids(login)["tiny-seed-1"] == [f"{array}_0"]


def test_a_run_that_is_left_alone_is_a_job_of_its_own(login):
    path = login.recipe("tiny", launch=ONE)
    run(login, path, "--each", "training.seed=1,2")
    login.launcher("stop", "tiny-seed-1")
    said = run(login, path, "--each", "training.seed=1,2").stdout
    assert re.search(r"^job \d+  train of tiny-seed-1 on test:main$", said, re.MULTILINE)


def test_runs_that_ask_for_something_else_are_another_array(login):
    paths = [
        login.recipe("a", launch=ONE),
        login.recipe("b", launch={"nodes": 2}),
        login.recipe("c", launch=ONE),
        login.recipe("d", launch={"nodes": 2}),
    ]
    said = run(login, *paths, "--throttle", "1").stdout
    assert (
        re.findall(r"^array \d+  train of (\d runs on \S+), 1 at a time", said, re.MULTILINE)
        == ["2 runs on test:main"] * 2
    )
    jobs = {name: login.lab.job(each[0]) for name, each in ids(login).items()}
    assert {name: job["NumNodes"].partition("-")[0] for name, job in jobs.items()} == {
        "a": "1",
        "b": "2",
        "c": "1",
        "d": "2",
    }
    assert {job["ArrayTaskThrottle"] for job in jobs.values()} == {"1"}


def test_each_job_of_a_chain_waits_for_that_of_its_own_run(login):
    from tests.slurm.site import PROFILE

    login.write_profile("test", {**PROFILE, "stages": {"prepare": "job"}})
    said = run(login, login.recipe("tiny", launch=ONE), "--each", "training.seed=1,2").stdout
    first, second = re.findall(r"^array (\d+)  ", said, re.MULTILINE)
    chains = {name: submissions.last_chain(login.tracked(name).run_dir) for name in ids(login)}
    assert {name: [(job.stage, job.job_id, job.after) for job in chain] for name, chain in chains.items()} == {
        f"tiny-seed-{index + 1}": [
            ("prepare", f"{first}_{index}", ()),
            ("train", f"{second}_{index}", (f"{first}_{index}",)),
        ]
        for index in (0, 1)
    }
    assert login.lab.job(f"{second}_1")["Dependency"] == f"aftercorr:{first}_*(unfulfilled)"
    log = login.lab.job(f"{first}_1")["StdOut"]
    assert Path(log).parent.samefile(login.tracked("tiny-seed-2").run_dir.job_logs)


def test_more_than_an_array_may_hold_are_several(make_lab, tmp_path_factory):
    login = waiting(make_lab(max_array_size=3), tmp_path_factory.mktemp("small"))
    said = run(login, login.recipe("tiny", launch=ONE), "--each", "training.seed=1,2,3,4,5,6,7").stdout
    assert re.findall(r"^array \d+  train of (\d) runs|^job \d+  train of (tiny-seed-7)", said, re.MULTILINE) == [
        ("3", ""), ("3", ""), ("", "tiny-seed-7"),
    ]  # fmt: skip
    assert len(queued(login)) == 7


def test_more_jobs_than_the_site_keeps_are_refused_before_any_is_queued(make_lab, tmp_path_factory):
    """Past MaxJobCount sbatch does not refuse: it waits and tries again, for ever."""
    login = waiting(make_lab(extra=("MaxJobCount=5",)), tmp_path_factory.mktemp("few"))
    path = login.recipe("tiny", launch=ONE)
    refused = run(login, path, "--each", "training.seed=1,2,3,4,5", check=False)
    assert refused.returncode == 5
    assert refused.stderr.splitlines()[-2:] == [
        "error: asks for 5 jobs; the site's MaxJobCount is 5, and 1 are there",
        "hint:  submit at most 4 now: fewer recipes or values; what is done or queued does not count again",
    ]
    assert not queued(login)
    run(login, path, "--each", "training.seed=1,2,3")
    assert len(queued(login)) == 3


def test_more_jobs_than_a_person_may_submit_are_refused_before_any_is_queued(make_lab, tmp_path_factory):
    lab = make_lab(accounting=True, extra=("AccountingStorageEnforce=limits",))
    lab.run(["sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=4"])
    login = waiting(lab, tmp_path_factory.mktemp("limited"))
    refused = run(login, login.recipe("tiny", launch=ONE), "--each", "training.seed=1,2,3,4", check=False)
    assert refused.returncode == 5
    assert "error: asks for 4 jobs; your MaxSubmitJobs is 4, and 1 are there" in refused.stderr
    assert not queued(login)
    run(login, login.folder / "tiny.yaml", "--each", "training.seed=1,2,3")
    assert len(queued(login)) == 3
