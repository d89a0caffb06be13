"""Which stages of a run that goes on get a job: the training's nodes are not asked for where nothing is to be done on them."""

from types import SimpleNamespace

import pytest

from launcher.cluster.profile import Stages
from launcher.executors.slurm import submit

APART = {"prepare": "job", "evaluate": "job", "export": "job"}


def jobs(monkeypatch, left, stages):
    monkeypatch.setattr(submit.state, "left", lambda run_dir: left)
    site = SimpleNamespace(profile=SimpleNamespace(stages=Stages(**stages)))
    every = ("prepare", "train", "evaluate", "export")
    return [stage for stage in every if submit.needs_job(None, SimpleNamespace(stage=stage), site)]


@pytest.mark.parametrize(
    ("left", "stages", "expected"),
    [
        (("prepare", "train", "evaluate", "export"), APART, ["prepare", "train", "evaluate", "export"]),
        (("train", "evaluate", "export"), APART, ["train", "evaluate", "export"]),
        (("evaluate", "export"), APART, ["evaluate", "export"]),
        (("export",), {"export": "auto"}, ["export"]),
        (("evaluate", "export"), {"evaluate": "train", "export": "job"}, ["train", "export"]),
        (("evaluate",), {"evaluate": "train"}, ["train"]),
        ((), APART, ["train"]),  # its report is missing: the run is to be closed
    ],
)
def test_stages_with_a_job_of_their_own(monkeypatch, left, stages, expected):
    assert jobs(monkeypatch, left, stages) == expected
