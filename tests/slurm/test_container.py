"""A run whose nodes and stages see only what was bound for them, as in a container."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from launcher.runs import preflight
from tests.slurm.lab import ROOT
from tests.slurm.site import Login
from tests.support import tiny

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


def test_a_run_needs_no_more_than_what_is_bound(lab, tmp_path: Path):
    """Prepared, trained on two nodes and merged in places where nothing else of the project is there.

    Apptainer is not: a program of its name binds folders as it would, and the interpreter inside fails when it sees
    what nobody bound.
    """
    tools, project = tmp_path / "tools", tmp_path / "project"
    tools.mkdir()
    shutil.copy(Path(__file__).parent / "apptainer.sh", tools / "apptainer")
    seen = f"[ ! -e {project}/clusters ] || {{ echo what was not bound is seen >&2; exit 97; }}"
    inside = tools / "python"
    inside.write_text(
        f'#!/bin/bash\n{seen}\necho "$@" >> {tools}/inside\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n'
    )
    inside.chmod(0o755)
    (tools / "launcher.sif").touch()
    box = {"runtime": "apptainer", "image": f"{tools}/launcher.sif", "python": str(inside)}
    setup = [f"export PATH={tools}:$PATH HIDDEN={project}"]
    login = Login(lab, project, {"container": box, "setup": setup, "stages": {"export": "train"}})
    sums = {"label": "sums", "path": "data/sums.jsonl", "columns": {"prompt": "question", "completion": "answer"}}
    tiny.jsonl(project / "data/sums.jsonl", tiny.words(120))

    run = login.submit(
        login.recipe("boxed", data={"datasets": [sums]}, training={"max_steps": 10}, export={"merge": True})
    )
    run.until_done()

    started = (tools / "inside").read_text()
    assert " prepare" in started
    assert started.count("launcher.worker.preflight") == started.count("launcher.worker.torchrun") == 2
    assert " export" in started
    assert sorted(run.losses()) == list(range(1, 11))
    assert preflight.verdict(run.run_dir, 1).ok
