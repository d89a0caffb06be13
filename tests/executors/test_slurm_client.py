"""What SLURM prints, read; the texts are from SLURM 22.05."""

import os

import pytest

from launcher.executors.slurm import client

JOB = (
    "JobId=9 JobName=a b UserId=root(0) GroupId=root(0) JobState=PENDING Reason=Resources Dependency=(null) "
    "TimeLimit=00:05:00 PreemptTime=None NodeList= StdOut=/x/9.log Comment=launcher:0123 Power="
)


def test_values_with_blanks_and_without_any():
    found = client.fields(JOB)
    assert (found["JobName"], found["JobState"], found["Reason"]) == ("a b", "PENDING", "Resources")
    assert (found["Dependency"], found["Comment"], found["NodeList"]) == ("(null)", "launcher:0123", "")


@pytest.mark.parametrize(
    ("left", "seconds"),
    [("58", 58), ("4:58", 298), ("1:00:00", 3600), ("2-01:00:00", 176_400), ("UNLIMITED", None), ("INVALID", None), ("", None)],
)  # fmt: skip
def test_time_left(left, seconds):
    assert client.seconds(left) == seconds


def test_a_complaint_in_one_line():
    said = "sbatch: error: invalid partition specified: nosuch\nsbatch: error: Batch job submission failed: Invalid partition name specified\n"
    answer = client.Answer(1, "", said)
    assert (
        answer.error
        == "invalid partition specified: nosuch; Batch job submission failed: Invalid partition name specified"
    )


def test_a_persons_defaults_for_the_commands_do_not_count(monkeypatch):
    for name in ("SBATCH_EXPORT", "SBATCH_ACCOUNT", "SQUEUE_PARTITION", "SLURM_TIME_FORMAT", "SLURM_CONF"):
        monkeypatch.setenv(name, "relative")
    said = {line.partition("=")[0] for line in client.call("env").out.splitlines()}
    assert {name for name in said if name.startswith(("SBATCH_", "SQUEUE_", "SLURM_"))} == {"SLURM_CONF"}
    with client.without_defaults():
        assert "SBATCH_EXPORT" not in os.environ
    assert os.environ["SBATCH_EXPORT"] == "relative"
