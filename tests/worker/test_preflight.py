"""Nodes that look at themselves and at one another before the ranks start: real processes, hosts, ports and disks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from launcher.runs import preflight
from launcher.runs.paths import RunDir
from launcher.worker.meeting import Door, candidates, knock
from tests.support.disks import mounted
from tests.support.nodes import JOB, Left, Machine, left, machines, slurm, start
from tests.support.until import until

PLAN = {"device": "cpu", "offload": "none", "jobs": [{"stage": "train", "nodes": 3, "processes": 2}]}
FIRST_PORT = 20000 + JOB
"""20000 + the job's number, as long as that is below what the system gives to anybody (32768 in Linux)."""


def made(folder: Path, **changes: object) -> RunDir:
    run = RunDir(folder)
    run.attempt(1).mkdir(parents=True)
    run.plan.write_text(json.dumps({**PLAN, **changes}))
    return run


def looked(
    run: RunDir, nodes: int, *more: str, hosts: Sequence[Machine] = (), only: Sequence[int] = (), **env: str
) -> list[Left]:
    """Have the nodes of a job (or those of `only`) look, all at once."""
    argv = ["launcher.worker.preflight", str(run.root), "1", *more]
    first = {"MASTER_ADDR": hosts[0].name if hosts else "127.0.0.1"}
    numbers = only or range(nodes)
    started = [
        start(argv, {**slurm(each, nodes), **first, **env}, hosts[each].inside if hosts else ()) for each in numbers
    ]
    return [left(each) for each in started]


def is_free(port: int) -> bool:
    """For anybody, without asking to share it with connections that linger."""
    with closing(socket.socket()) as anybody:
        try:
            anybody.bind(("", port))
        except OSError:
            return False
    return True


def test_nodes_that_are_well_agree_on_a_port(tmp_path: Path):
    """Each writes what it found, all leave with the same port, and the port is free for the ranks."""
    run = made(tmp_path)

    found = looked(run, 3)

    assert [(each.code, each.err) for each in found] == [(0, "")] * 3
    assert {each.out for each in found} == {f"{FIRST_PORT}\n"}
    until(lambda: is_free(FIRST_PORT), seconds=10)
    reports = preflight.reports(run, 1)
    assert [reports[each].name for each in range(3)] == ["node1", "node2", "node3"]
    assert {each.checks["gpus"].why for each in reports.values()} == {"the plan is for CPUs"}
    assert all(each.seconds < 30 for each in reports.values())
    assert preflight.verdict(run, 1) == preflight.Preflight(FIRST_PORT, {}, (), (), ())


def test_the_checks_load_no_torch(tmp_path: Path):
    """They run on every node before each start."""
    program = (
        "import sys, launcher.worker.preflight; print([n for n in ('torch', 'numpy', 'pydantic') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_a_port_that_is_taken_is_passed_over(tmp_path: Path):
    """Another job may listen where this one would meet."""
    with closing(socket.create_server(("", FIRST_PORT))):
        found = looked(made(tmp_path), 2)

    assert [each.code for each in found] == [0, 0]
    assert {each.out for each in found} == {f"{FIRST_PORT + 997}\n"}


def test_every_time_a_port_is_lost_another_one_is_found():
    """A hundred jobs, each of which loses its first port."""
    for job in range(100):
        ports = candidates(job)
        with closing(socket.create_server(("", next(ports)))), Door("token", candidates(job)) as door:
            assert door.port == next(ports)
            assert knock("127.0.0.1", door.port, "token")[0] is None
        until(lambda port=door.port: is_free(port), seconds=10)


@pytest.mark.parametrize(("given", "last"), [("32768\t60999", 32767), ("1024 65535", 39999), ("50000 60000", 39999)])
def test_ports_lie_below_those_that_the_system_gives_away(tmp_path: Path, given: str, last: int):
    """Else a client's socket takes one between two starts. Where nearly all are given away, there is nothing to avoid."""
    (tmp_path / "range").write_text(given)

    ports = {port for job in range(0, 60_000, 7) for port in candidates(job, tmp_path / "range")}

    assert min(ports) == 20000
    assert max(ports) == last


def test_another_process_behind_the_port_is_not_taken_for_the_node():
    """A port is nothing without the token of the node's own report."""
    with Door("another", iter([0])) as door:
        why, _ = knock("127.0.0.1", door.port, "token")

    assert why == f"127.0.0.1:{door.port} is answered by another process than the node's own"


def test_a_node_that_never_comes_is_named(tmp_path: Path):
    """The others give up after the time they were given."""
    run = made(tmp_path)

    found = looked(run, 3, "--wait", "2", only=[0, 2])

    assert [each.code for each in found] == [86, 86]
    assert found[0].err == "preflight: node 1 of 3: it has not reported\n"
    assert found[1].err == ""
    judged = preflight.verdict(run, 1, ("node1", "node2", "node3"))
    assert judged.bad == {"node2": "it has not reported"}
    assert judged.missing == (1,)
    assert not judged.ok


def test_reports_of_an_earlier_start_of_the_same_attempt_are_not_meant(tmp_path: Path):
    """Started by hand again, nodes must not take an old port for the new one."""
    run = made(tmp_path)
    looked(run, 2, SLURM_STEP_ID="0")

    (alone,) = looked(run, 2, "--wait", "1", only=[0], SLURM_STEP_ID="1")

    assert alone.code == 86
    assert preflight.verdict(run, 1).missing == (1,)


def test_a_full_run_directory_is_nobodys_fault(tmp_path: Path):
    """Other nodes would find it as full."""
    with mounted(tmp_path / "disk", "size=1m") as disk:
        run = made(disk.path / "run")
        disk.fill()
        (found,) = looked(run, 1)

    assert found.code == 4
    assert found.err == f"preflight: node1: the run directory cannot be written: {disk.path} is full (0.0 MiB free)\n"


def test_too_little_room_for_a_checkpoint_is_told_once(tmp_path: Path):
    """256 MiB are asked for where no checkpoint tells how large the next one will be."""
    with mounted(tmp_path / "disk", "size=8m") as disk:
        run = made(disk.path / "run")
        found = looked(run, 2)

    assert [each.code for each in found] == [4, 4]
    assert "has 8.0 MiB free, 0.2 GiB are needed" in found[0].err
    assert found[1].err == ""


def test_a_node_without_room_for_temporary_files_is_bad(tmp_path: Path):
    """What earlier jobs left lies on that node alone."""
    with mounted(tmp_path / "tmp", "size=2m") as disk:
        (found,) = looked(made(tmp_path / "run"), 1, TMPDIR=str(disk.path))

    assert found.code == 86
    assert found.err == f"preflight: node1: {disk.path} has 2.0 MiB free, 64.0 MiB are needed for {disk.path}\n"


def test_a_folder_for_temporary_files_that_is_not_there_is_told(tmp_path: Path):
    """Python takes another one, so the run goes on."""
    (found,) = looked(made(tmp_path), 1, TMPDIR="/nowhere")

    assert found.code == 0
    assert "warning: node1: TMPDIR is /nowhere, which is not there" in found.err


def test_a_node_without_its_gpus_is_bad(tmp_path: Path):
    """The plan counts on 2 in each; here nvidia-smi shows one that is well."""
    tools = tmp_path / "tools"
    tools.mkdir()
    shown = "<nvidia_smi_log><driver_version>570.1</driver_version><gpu><product_name>H100</product_name></gpu></nvidia_smi_log>"
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\necho '{shown}'\n")
    (tools / "nvidia-smi").chmod(0o755)

    path = f"{tools}:{os.environ['PATH']}"
    (found,) = looked(made(tmp_path / "run", device="cuda"), 1, PATH=path)

    assert found.code == 86
    assert found.err == "preflight: node1: 2 GPUs are planned, and 1 are here\n"


def test_machines_that_reach_one_another_are_well(tmp_path: Path):
    """Three hosts with addresses of their own."""
    with machines(tmp_path, 3) as hosts:
        run = made(tmp_path / "run")
        found = looked(run, 3, hosts=hosts)

    assert [(each.code, each.err) for each in found] == [(0, "")] * 3
    assert [each.address for each in preflight.reports(run, 1).values()] == ["10.79.0.1", "10.79.0.2", "10.79.0.3"]


@pytest.mark.parametrize("culprit", [1, 2])
def test_a_machine_whose_name_means_itself_alone_is_named_with_the_line(tmp_path: Path, culprit: int):
    """As Debian installs it: gloo would tell the others 127.0.1.1, and all would wait."""
    own = f"127.0.1.1 node{culprit}\n" + "".join(f"10.79.0.{n} node{n}\n" for n in (1, 2, 3) if n != culprit)
    with machines(tmp_path, 3, {culprit: own}) as hosts:
        run = made(tmp_path / "run")
        found = looked(run, 3, hosts=hosts)

    why = f"its own name `node{culprit}` means 127.0.1.1 to it (/etc/hosts:2), where no other node reaches it"
    assert [each.code for each in found] == [86, 86, 86]
    assert found[culprit - 1].err == f"preflight: node{culprit}: {why}\n"
    assert preflight.verdict(run, 1).bad == {f"node{culprit}": why}


def test_where_all_machines_are_like_that_it_is_the_site(tmp_path: Path):
    """No other node would be better. With the interface named, nobody needs the names."""
    own = {each: f"127.0.1.1 node{each}\n" + ("" if each == 1 else "10.79.0.1 node1\n") for each in (1, 2)}
    with machines(tmp_path, 2, own) as hosts:
        found = looked(made(tmp_path / "names"), 2, hosts=hosts)
        mended = looked(made(tmp_path / "interface"), 2, hosts=hosts, GLOO_SOCKET_IFNAME="eth0")

    assert [each.code for each in found] == [4, 4]
    assert "means 127.0.1.1 to it (/etc/hosts:2), where no other node reaches it (on node" in found[0].err
    assert [(each.code, each.err) for each in mended] == [(0, "")] * 2


def test_over_nccl_such_names_are_only_told(tmp_path: Path):
    """It looks at the interfaces. The GPUs are not here, which this plan finds too."""
    own = {2: "127.0.1.1 node2\n10.79.0.1 node1\n"}
    with machines(tmp_path, 2, own) as hosts:
        run = made(tmp_path / "run", device="cuda")
        looked(run, 2, hosts=hosts)

    judged = preflight.verdict(run, 1)
    assert judged.bad == {}
    assert [each.partition(" (on")[0] for each in judged.faults] == [
        "2 GPUs are planned, and there is no nvidia-smi here"
    ]
    assert judged.warnings[0].startswith("node2: its own name `node2` means 127.0.1.1")


def test_a_machine_whose_name_means_nothing_is_named(tmp_path: Path):
    """Nor does it find an address of its own."""
    with machines(tmp_path, 3, {3: "10.79.0.1 node1\n10.79.0.2 node2\n"}) as hosts:
        found = looked(made(tmp_path / "run"), 3, hosts=hosts)

    assert [each.code for each in found] == [86, 86, 86]
    assert "node3: its own name `node3` means no address to it" in found[2].err


def test_a_machine_that_is_cut_off_is_named(tmp_path: Path):
    """It sees the run directory, and no other node."""
    with machines(tmp_path, 3) as hosts:
        hosts[1].run("ip", "route", "add", "prohibit", "10.79.0.1/32")
        run = made(tmp_path / "run")
        found = looked(run, 3, hosts=hosts)

    assert [each.code for each in found] == [86, 86, 86]
    assert found[1].err.startswith(f"preflight: node2: node2 cannot reach node1 at node1:{FIRST_PORT}")
    assert list(preflight.verdict(run, 1).bad) == ["node2"]
