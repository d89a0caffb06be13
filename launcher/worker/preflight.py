"""`python -m launcher.worker.preflight RUN ATTEMPT`: look at this node, and at the way to the others, before the ranks start.

Runs once on each node, in the container where there is one, and loads no torch. On standard output it leaves the port on
which the ranks meet. It leaves with 0; with 86 where a node is bad, and with 4 where another node would not help; every
node then leaves, since the run cannot start without one of them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from launcher.errors import EnvironmentFault, Exit, LauncherError, MachineFailed
from launcher.runs import preflight, versions
from launcher.runs.files import read_json
from launcher.runs.paths import RunDir
from launcher.runs.preflight import Check, NodeReport, Preflight
from launcher.worker import gpus, room, space
from launcher.worker.meeting import Door, candidates, knock, own_address

_SECONDS_TO_ARRIVE = 60.0
"""Nodes start seconds apart, an image that one has to unpack first makes it more, and a network file system may show a
file late."""
_TOGETHER = 32
_DIGITS = 12


def main(argv: Sequence[str]) -> int:
    """Look, tell, and say on standard error what is wrong; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m launcher.worker.preflight", description="Check this node.")
    parser.add_argument("run", type=Path, help="the run directory")
    parser.add_argument("attempt", type=int, help="number of the attempt that is starting")
    parser.add_argument(
        "--wait",
        type=float,
        default=_SECONDS_TO_ARRIVE,
        metavar="S",
        help="seconds to wait for other nodes (default: 60)",
    )
    args = parser.parse_args(argv)
    node = Node(RunDir(args.run.resolve()), args.attempt, os.environ, args.wait)
    try:
        found = node.check()
    except LauncherError as error:
        return _say(node.name, error.message, error.exit_code)
    return _leave(node, found)


class Node:
    """This node of a job."""

    def __init__(self, run_dir: RunDir, attempt: int, environ: Mapping[str, str], wait_s: float) -> None:
        """Who it is stands in the environment that SLURM gives each task; without, it is the only node."""
        self.run_dir = run_dir
        self.attempt = attempt
        self.environ = environ
        self.wait_s = wait_s
        self.number = int(environ.get("SLURM_NODEID", "0"))
        self.nodes = int(environ.get("SLURM_STEP_NUM_NODES") or environ.get("SLURM_JOB_NUM_NODES") or "1")
        self.name = environ.get("SLURMD_NODENAME") or platform.node()
        self.plan = read_json(run_dir.plan) or {}
        self._began = time.monotonic()
        # Over NCCL the addresses that host names mean do not matter: it looks at the interfaces.
        self._gloo = self.plan.get("device") != "cuda" or self.plan.get("offload") != "none"

    def check(self) -> Preflight:
        """Look at this node, wait for the others, try to reach them, wait again; then all know the same.

        Raises:
            LauncherError: this node could not even tell what it found.
        """
        token = secrets.token_hex(16)
        job = int(self.environ.get("SLURM_JOB_ID") or 0)
        with Door(token, candidates(job) if self.number == 0 else iter([0])) as door:
            report = self._looked(token, door.port)
            self._tell(report)
            if self.nodes > 1:
                others = self._wait_for(lambda _: True)
                self._tell(self._tried(report, others))
                self._wait_for(lambda each: each.done)
            return preflight.verdict(self.run_dir, self.attempt)

    def _looked(self, token: str, port: int) -> NodeReport:
        address, why = own_address(self.environ.get("GLOO_SOCKET_IFNAME"))
        found = self._gpus()
        checks = {"gpus": found.check, **room.checks(self.run_dir, self.environ)}
        if why and self.nodes > 1 and not self._gloo:
            checks["name"] = Check("warning", why)
        figures = {"gpus": list(found.names), **({"driver": found.driver} if found.driver else {})}
        return NodeReport(
            start=self._start(), node=self.number, nodes=self.nodes, name=self.name, host=platform.node(),
            address=address, address_fault=why, port=port, token=token, done=self.nodes == 1, written=time.time(), seconds=self._seconds(),
            versions={**versions.here(), "plan.json": _digest(self.run_dir.plan)}, checks=checks, figures=figures,
        )  # fmt: skip

    def _gpus(self) -> gpus.Found:
        if self.plan.get("device") != "cuda":
            return gpus.Found(Check("skipped", "the plan is for CPUs"))
        planned = next((job["processes"] for job in self.plan.get("jobs", ()) if job.get("stage") == "train"), 1)
        return gpus.look(planned, self.environ.get("CUDA_VISIBLE_DEVICES"))

    def _tried(self, report: NodeReport, others: Mapping[int, NodeReport]) -> NodeReport:
        """The report with what came of reaching the others: node 0 calls on all of them, they call on node 0."""
        wanted = [each for number, each in others.items() if number != self.number and 0 in (number, self.number)]
        with ThreadPoolExecutor(_TOGETHER) as callers:
            answers = list(callers.map(self._call, wanted))
        unreachable = {str(each.node): why for each, (why, _) in zip(wanted, answers, strict=True) if why}
        skew = {} if self.number == 0 or not answers else {"clock_skew_s": -round(answers[0][1], 3)}
        return replace(
            report, done=True, unreachable=unreachable, figures={**report.figures, **skew},
            written=time.time(), seconds=self._seconds(),
        )  # fmt: skip

    def _call(self, other: NodeReport) -> tuple[str | None, float]:
        """Call on a node as its ranks will be: on the first one by its name, over gloo on any by the address it tells."""
        hosts = [self.environ.get("MASTER_ADDR") or other.host] if other.node == 0 else []
        hosts += [other.address or ""] if self._gloo else []
        ahead = 0.0
        for host in hosts:
            why, ahead = knock(host, other.port, other.token) if host else (other.address_fault, 0.0)
            if why:
                return f"{self.name} cannot reach {other.name} at {why}", 0.0
        return None, ahead

    def _tell(self, report: NodeReport) -> None:
        """Write the report, and read it back."""
        try:
            preflight.write(self.run_dir, self.attempt, report)
        except OSError as error:
            why = space.trouble(error, self.run_dir.root)
            kind = MachineFailed if why is not None and why.cause == "infrastructure" else EnvironmentFault
            raise kind(f"the run directory cannot be written: {why.sentence if why else error}") from None
        if preflight.read(self.run_dir, self.attempt, self.number) != report:
            raise MachineFailed(f"what is written to {self.run_dir.root} does not read back")

    def _wait_for(self, ready: Callable[[NodeReport], bool]) -> dict[int, NodeReport]:
        """The reports of all nodes once each is ready, or of those that have come when the time is over."""
        seen: dict[int, NodeReport] = {}
        until, pause = time.monotonic() + self.wait_s, 0.05
        while len(seen) < self.nodes and time.monotonic() < until:
            for number in set(range(self.nodes)) - seen.keys():
                report = preflight.read(self.run_dir, self.attempt, number)
                if report is not None and report.start == self._start() and ready(report):
                    seen[number] = report
            if len(seen) < self.nodes:
                self._look_again()
                time.sleep(pause)
                pause = min(1.0, pause * 1.5)
        return seen

    def _look_again(self) -> None:
        """Change the folder: a network file system then asks its server for the names instead of its memory."""
        nudge = self.run_dir.node_report(self.attempt, self.number).with_suffix(".look")
        nudge.touch()
        nudge.unlink(missing_ok=True)

    def _start(self) -> str:
        keys = ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_STEP_ID")
        return ".".join([*(self.environ.get(key, "0") for key in keys), str(self.attempt)])

    def _seconds(self) -> float:
        return round(time.monotonic() - self._began, 3)


def _leave(node: Node, found: Preflight) -> int:
    """The exit code, with what is wrong: a node's fault is told by that node, what all share by the first."""
    for warning in found.warnings if node.number == 0 else ():
        sys.stderr.write(f"preflight: warning: {warning}\n")
    if node.number == 0:
        for number in found.missing:
            _say(f"node {number} of {node.nodes}", "it has not reported", Exit.INFRASTRUCTURE)
        for fault in found.faults:
            _say("", fault, Exit.ENVIRONMENT)
    if node.name in found.bad:
        _say(node.name, found.bad[node.name], Exit.INFRASTRUCTURE)
    if found.faults:
        return Exit.ENVIRONMENT
    if not found.ok:
        return Exit.INFRASTRUCTURE
    print(found.port)  # noqa: T201 - for the script that started it
    return Exit.DONE


def _say(who: str, what: str, code: int) -> int:
    sys.stderr.write(f"preflight: {who}{': ' if who else ''}{what}\n")
    return int(code)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS]
    except OSError:
        return versions.NONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
