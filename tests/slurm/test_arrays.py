"""Arrays on the real cluster: each element is a run like any other, requeued, failed and stopped alone."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.slurm.lab import Lab
from tests.slurm.site import Login, Tracked, reference
from tests.support.until import until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

ONE = {"nodes": 1}


@pytest.fixture
def login(cluster: Lab, tmp_path_factory: pytest.TempPathFactory) -> Login:
    return Login(cluster, tmp_path_factory.mktemp("login"))


def submit(login: Login, queue: str, *words: object) -> list[Tracked]:
    """Type `launcher run …`; the runs in the order in which they were listed, which is that of their indices."""
    said = login.launcher("run", *words, "--cluster", f"test:{queue}").stdout
    return [login.tracked(name) for name in re.findall(r"^  \d+_\d+  (\S+)$", said, re.MULTILINE)]


def states(login: Login) -> dict[str, str]:
    return {each["name"]: each["state"] for each in json.loads(login.launcher("status", "--json").stdout)}


@contextmanager
def most_at_a_time(lab: Lab, found: list[int]) -> Iterator[None]:
    """Look every moment how many trainings run; the numbers go to `found`."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.3):
            names = lab.run(["squeue", "-h", "-t", "RUNNING", "-o", "%j"]).stdout.split()
            found.append(len([name for name in names if not name.endswith("-evaluate")]))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_only_preempted_elements_are_requeued_and_all_end_as_single_runs_do(login, tmp_path):
    """Four runs on a node each; a job of a higher partition takes two of the nodes."""
    login.write_profile("test", {**_profile(login), "directives": ["--exclusive"]})
    longer = {"launch": ONE, "training": {"max_steps": 300}, "checkpoint": {"save_steps": 100}}
    runs = submit(login, "low", login.recipe("tiny", **longer), "--each", "training.seed=1,2,3,4")
    for run in (runs[1], runs[3]):
        run.until_step(3)
    nodes = [login.lab.job(run.job())["NodeList"] for run in runs]
    assert len(set(nodes)) == 4
    login.lab.sbatch("#!/bin/bash\nsleep 2", "-p", "high", f"-w{nodes[1]},{nodes[3]}", "-N2", "--exclusive", "--time=1")
    for run in runs:
        run.until_done(seconds=600)
    assert [login.lab.job(run.job())["Restarts"] for run in runs] == ["0", "1", "0", "1"]
    assert [run.attempts() for run in runs] == [1, 2, 1, 2]
    for seed, run in enumerate(runs, 1):
        alone = reference(
            tmp_path, login.recipe(f"alone-{seed}", **{**longer, "training": {"max_steps": 300, "seed": seed}}), 1
        )
        assert run.losses() == alone.losses()
        assert run.weights() == alone.weights()
    assert len({run.weights() for run in runs}) == 4, "the seeds made no difference"


def test_two_at_a_time_and_one_that_fails_harms_no_other(login):
    """Several recipes, one with broken data; each is measured by a job behind its own training."""
    login.write_profile("test", {**_profile(login), "stages": {"evaluate": "job"}})
    rows = (login.folder / "sums.jsonl").read_text().splitlines()
    (login.folder / "bad.jsonl").write_text("\n".join([*rows[:100], '{"question": 7, "answer":', *rows[100:]]) + "\n")
    recipes = [login.recipe(name, **_measured("sums.jsonl")) for name in ("a", "b", "c")]
    recipes.insert(1, login.recipe("bad", **_measured("bad.jsonl")))
    running: list[int] = []
    with most_at_a_time(login.lab, running):
        runs = dict(zip(("a", "bad", "b", "c"), submit(login, "main", *recipes, "--throttle", "2"), strict=True))
        again = login.launcher("run", *recipes, "--throttle", "2", "--cluster", "test:main")
        assert "4 runs: 4 queued or running already" in again.stderr
        until(lambda: not login.lab.run(["squeue", "-h"]).stdout, seconds=600)
    assert max(running) == 2, running
    assert states(login) == {"a": "done", "bad": "failed", "b": "done", "c": "done"}, runs["a"].story()
    jobs = {name: (run.job(), run.job("evaluate")) for name, run in runs.items()}
    assert {name: login.lab.job(evaluate)["JobState"] for name, (_, evaluate) in jobs.items()} == {
        "a": "COMPLETED", "bad": "CANCELLED", "b": "COMPLETED", "c": "COMPLETED",
    }  # fmt: skip
    table = login.launcher("status").stdout
    assert re.search(r"^    .*bad\.jsonl.*→  launcher logs bad", table, re.MULTILINE), table
    log = login.launcher("logs", "a", "--job").stdout
    assert f"job {jobs['a'][0]}, turn 1" in log or f"job {jobs['a'][1]}, turn 1" in log
    login.recipe("bad", **_measured("sums.jsonl"))
    mended = login.launcher("run", *recipes, "--cluster", "test:main")
    assert "3 finished already" in mended.stderr
    until(login.tracked("bad").run_dir.done.exists, seconds=300)  # behind its training, the measuring
    assert states(login)["bad"] == "done"


def test_stopping_one_leaves_the_others(login):
    runs = submit(login, "main", login.recipe("tiny", launch=ONE), "--each", "training.seed=1,2")
    runs[0].until_step(3)
    login.launcher("stop", runs[0].run_dir.name, "--wait", "120")
    runs[1].until_done()
    name = runs[0].run_dir.name
    assert states(login) == {name: "stopped", runs[1].run_dir.name: "done"}
    done = login.launcher("run", login.folder / "tiny.yaml", "--each", "training.seed=1,2", "--cluster", "test:main")
    assert "1 continued, 1 finished already" in done.stderr
    login.tracked(name).until_done()
    steps = runs[0].steps()
    assert [step for step, _ in steps] == list(range(1, 61)), "it went on where it had stopped"


def _profile(login: Login) -> dict:
    from tests.slurm.site import PROFILE

    return {**PROFILE, **login.profile}


def _measured(path: str) -> dict:
    source = {"label": "sums", "path": path, "columns": {"prompt": "question", "completion": "answer"}}
    held_out = {"label": "held_out", "from": "all", "fraction": 0.1}
    data = {"datasets": [source], "eval_datasets": [held_out]}
    return {"data": data, "launch": ONE, "training": {"max_steps": 6}, "checkpoint": {"save_steps": 6}}
