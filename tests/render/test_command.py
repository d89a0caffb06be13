"""Commands as argument lists and as lines for people; a value can never become shell syntax."""

import shlex
import subprocess

import pytest

from launcher.cluster.schema import Cluster, Gpu
from launcher.plan.types import Job
from launcher.render.command import command, node_commands, run_line, shell_lines
from tests.support import planning

NASTY = ["$(touch pwned)", "a b", "'; touch pwned; '", "-rf", "`id`", "a\nb", "*", "~", "é", '"', "\\", ""]


def test_the_training_job_is_one_torchrun_line(tmp_path):
    """The line a person would type by hand: every signal that may stop it is handed on, with 10 minutes for ranks that save."""
    train = planning.plan(tmp_path, "launch.processes=2").jobs[-1]
    expected = (
        "python -m launcher.worker.torchrun --standalone --nproc-per-node 2"
        " --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2 --shutdown-timeout 600"
        " -m launcher.worker runs/small"
    )
    assert command(train, "runs/small", "python") == expected.split()
    assert shell_lines(train, "runs/small", "python") == [f"OMP_NUM_THREADS=1 {expected}"]


def test_preparing_is_one_command(tmp_path):
    """Tokenising comes before any GPU is held."""
    prepare = planning.plan(tmp_path).jobs[0]
    assert command(prepare, "RUN", "py") == ["py", "-m", "launcher.worker.stage", "RUN", "prepare"]
    assert prepare.env == {"OMP_NUM_THREADS": "1"}


def test_more_nodes_give_one_line_for_each(tmp_path):
    """torchrun must be started on every node; all meet at the first."""
    cluster = Cluster("local", Gpu("H100", 79.6, 79.6), gpus_per_node=8, cpus_per_node=16, memory_gib=64.0)
    train = planning.plan(tmp_path, "launch.nodes=2", cluster=cluster).jobs[-1]
    first, second = node_commands(train, "RUN", "python", host="node07")
    assert first[first.index("--node-rank") + 1] == "0"
    assert second[second.index("--node-rank") + 1] == "1"
    for line in (first, second):
        assert line[line.index("--nnodes") + 1] == "2"
        assert line[line.index("--nproc-per-node") + 1] == "8"
        assert line[line.index("--master-addr") + 1] == "node07"
        assert line[line.index("--master-port") + 1] == "29400"
        assert not any("{" in word for word in line)


@pytest.mark.parametrize("value", NASTY)
def test_a_shell_reads_every_value_as_one_word(tmp_path, value):
    """A real shell is asked: it must see exactly the arguments and variables that were meant, and run nothing else."""
    job = Job("train", ("{python}", "-c", "{run_dir}"), {"VALUE": value}, nodes=1, processes=1)
    reader = "import os, sys; print(repr((os.environ['VALUE'], sys.argv[1:])))"
    (line,) = shell_lines(job, reader, "python3")
    answer = subprocess.run(
        ["/bin/sh", "-c", f"{line} {shlex.quote(value)}"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert answer.stdout == repr((value, [value])) + "\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", NASTY)
def test_the_next_line_can_be_pasted(value):
    """File names and `--set` values are the user's; the line we print back must mean the same."""
    line = run_line(value, sets=[f"name={value}"], cluster="local", gpus="0,1")
    assert shlex.split(line) == ["launcher", "run", value, "--gpus", "0,1", "--set", f"name={value}"]
