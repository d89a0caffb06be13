"""What reports of nodes come to: who is to be left out of the next start, and what nobody there can help."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.runs import preflight, versions
from launcher.runs.paths import RunDir
from launcher.runs.preflight import Check, NodeReport

RIGHT = {"torch": "2.13.0", "trl": "1.16.0"}


def report(node: int, nodes: int, **more: object) -> NodeReport:
    facts: dict = {
        "start": "1.0.0.1", "node": node, "nodes": nodes, "name": f"n{node}", "host": f"n{node}.site",
        "address": f"10.0.0.{node + 1}", "address_fault": "", "port": 20001 + node, "token": "t", "written": 100.0,
        "seconds": 0.2, "done": True, "versions": RIGHT,
    }  # fmt: skip
    return NodeReport(**{**facts, **more})


def judged(folder: Path, *reports: NodeReport, names: tuple[str, ...] = ()) -> preflight.Preflight:
    run = RunDir(folder)
    for each in reports:
        preflight.write(run, 1, each)
    return preflight.verdict(run, 1, names)


def of_three(folder: Path, **changed: dict) -> preflight.Preflight:
    """Three nodes; `n1={…}` changes the report of that one."""
    return judged(folder, *(report(each, 3, **changed.get(f"n{each}", {})) for each in range(3)))


def test_nothing_found_is_a_start(tmp_path: Path):
    """The ranks meet on the port of the first node."""
    found = of_three(tmp_path)

    assert found.ok
    assert found.port == 20001


def test_where_no_node_reported_none_is_to_blame(tmp_path: Path):
    """All of them at once are not bad: the preflight itself did not run."""
    found = judged(tmp_path, names=("n0", "n1"))

    assert not found.ok
    assert (found.bad, found.missing) == ({}, (0, 1))
    assert found.faults == ("no node has reported: the preflight did not run, or could not write",)


def test_a_node_that_did_not_come_to_the_end_is_bad(tmp_path: Path):
    """It had reported, and then fell."""
    assert of_three(tmp_path, n2={"done": False}).bad == {"n2": "it has not come to the end of the preflight"}


def test_half_a_report_is_no_report(tmp_path: Path):
    """A disk may lose what was written to it."""
    run = RunDir(tmp_path)
    run.attempt(1).mkdir(parents=True)
    run.node_report(1, 1).write_text('{"node": 1')
    run.node_report(1, 2).write_text(json.dumps({"node": 2, "checks": {}}))

    found = judged(tmp_path, report(0, 3), names=("n0", "n1", "n2"))

    assert list(found.bad) == ["n1", "n2"]


def test_only_the_newest_start_counts(tmp_path: Path):
    """An attempt that was started again by hand has reports of both."""
    run = RunDir(tmp_path)
    preflight.write(run, 1, report(1, 3, start="1.0.0.1", checks={"gpus": Check("bad", "old")}, written=90.0))

    found = judged(tmp_path, report(0, 2, start="1.0.1.1"), names=("n0", "n1"))

    assert found.bad == {"n1": "it has not reported"}


@pytest.mark.parametrize(
    ("finding", "nodes", "bad", "faults"),
    [
        ("bad", 1, ["n0"], 0),
        ("bad", 3, ["n0", "n1", "n2"], 0),
        ("odd", 1, ["n0"], 0),
        ("odd", 2, [], 1),
        ("odd", 3, [], 1),
        ("fault", 2, [], 1),
        ("warning", 2, [], 0),
        ("skipped", 2, [], 0),
    ],
)
def test_what_most_nodes_find_odd_is_the_site(tmp_path: Path, finding, nodes: int, bad: list[str], faults: int):
    """A plan for 8 GPUs on nodes of 4 is wrong on every node; a broken GPU is broken wherever it is."""
    check = {"gpus": Check(finding, "4 GPUs are here")}

    found = judged(tmp_path, *(report(each, nodes, checks=check) for each in range(nodes)))

    assert (list(found.bad), len(found.faults)) == (bad, faults)


def test_what_one_of_three_finds_odd_is_its_own_fault(tmp_path: Path):
    """With all it has found."""
    checks = {"gpus": Check("odd", "3 GPUs are here"), "room": Check("bad", "/tmp is full")}

    found = of_three(tmp_path, n1={"checks": checks})

    assert found.bad == {"n1": "3 GPUs are here; /tmp is full"}
    assert found.faults == ()


def test_the_odd_one_out_by_its_versions_is_named(tmp_path: Path):
    """Most nodes decide what is right."""
    found = of_three(tmp_path, n2={"versions": {**RIGHT, "trl": "1.15.0"}})

    assert found.bad == {"n2": "trl is 1.15.0 here and 1.16.0 on the other nodes"}


def test_a_node_that_lacks_a_library_is_odd_too(tmp_path: Path):
    """Its environment is not that of the others."""
    found = of_three(tmp_path, n0={"versions": {"torch": "2.13.0"}})

    assert found.bad == {"n0": "trl is none here and 1.16.0 on the other nodes"}


def test_two_that_differ_are_decided_by_the_submitter(tmp_path: Path):
    """A build for CPUs where it was submitted is the same version."""
    run = RunDir(tmp_path)
    run.submitted_versions.parent.mkdir(parents=True)
    run.submitted_versions.write_text(json.dumps({"torch": "2.13.0+cpu"}))
    other = report(1, 2, versions={**RIGHT, "torch": "2.12.0+cu130"})

    found = judged(tmp_path, report(0, 2, versions={**RIGHT, "torch": "2.13.0+cu130"}), other)

    assert found.bad == {"n1": "torch is 2.12.0+cu130 here and 2.13.0+cu130 on the other nodes"}
    assert found.faults == ()


def test_two_that_differ_are_both_named_where_nothing_decides(tmp_path: Path):
    """It cannot be mended by another node."""
    found = judged(tmp_path, report(0, 2), report(1, 2, versions={**RIGHT, "torch": "2.12.0"}))

    assert found.bad == {}
    assert found.faults == ("the nodes do not agree on torch: 2.13.0 on n0, 2.12.0 on n1",)


def test_nodes_unlike_the_submitter_are_not_to_blame(tmp_path: Path):
    """All nodes have the same environment, and it is another one."""
    run = RunDir(tmp_path)
    run.submitted_versions.parent.mkdir(parents=True)
    run.submitted_versions.write_text(json.dumps({"torch": "2.12.1"}))

    found = of_three(tmp_path)

    assert found.bad == {}
    assert found.faults == ("torch is 2.13.0 on the nodes and 2.12.1 where the run was submitted",)


def test_the_submitter_writes_down_what_it_has(tmp_path: Path):
    """What it has not (a login node without torch) is left out of the comparison."""
    run = RunDir(tmp_path)

    versions.record(run, ("torch", "no-such-library"))
    both = versions.submitted(run)
    versions.record(run, (), python=False)

    assert both == {name: versions.here()[name] for name in ("python", "launcher", "torch")}
    assert versions.submitted(run) == {"launcher": both["launcher"]}


def test_a_node_that_does_not_reach_the_first_is_bad(tmp_path: Path):
    """The other one does."""
    found = of_three(tmp_path, n2={"unreachable": {"0": "n2 cannot reach n0 at n0:20001: no route"}})

    assert found.bad == {"n2": "n2 cannot reach n0 at n0:20001: no route"}


def test_a_first_node_that_nobody_reaches_is_bad(tmp_path: Path):
    """It may say the same of the others."""
    cut_off = {"unreachable": {"0": "timed out"}}

    found = of_three(tmp_path, n0={"unreachable": {"1": "timed out"}}, n1=cut_off, n2=cut_off)

    assert found.bad == {"n0": "2 of 2 nodes and it cannot reach one another: timed out"}


def test_of_two_that_do_not_reach_each_other_either_may_be_bad(tmp_path: Path):
    """The next start does without both."""
    found = judged(tmp_path, report(0, 2), report(1, 2, unreachable={"0": "timed out"}))

    assert found.bad == {"n0": "timed out", "n1": "timed out"}


def test_a_loop_does_not_matter_where_it_is_reached(tmp_path: Path):
    """Several nodes of one machine all are 127.0.0.1, and find one another there."""
    looped = {"address_fault": "its own name means 127.0.0.1"}

    assert of_three(tmp_path, n0=looped, n1=looped, n2=looped).ok


def test_clocks_and_drivers_that_differ_are_told(tmp_path: Path):
    """Neither stops a run."""
    found = of_three(
        tmp_path,
        n0={"figures": {"driver": "570.1"}},
        n1={"figures": {"driver": "570.1", "clock_skew_s": -7.4}},
        n2={"figures": {"driver": "575.2", "clock_skew_s": 4.9}},
    )

    assert found.ok
    assert found.warnings == (
        "n1: its clock is -7 s off that of n0",
        "NVIDIA drivers differ: 570.1 on n0, 570.1 on n1, 575.2 on n2",
    )
