"""The nodes of the SLURM job that this process runs in, as the host of a run's stages."""

from __future__ import annotations

import contextlib
import math
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from launcher.cluster.profile import Stages
from launcher.errors import EnvironmentFault, LauncherError, MachineFailed, SubmissionError
from launcher.executors import outcome, time_left
from launcher.executors.slurm import bad_nodes, client
from launcher.plan.types import Job, Plan
from launcher.render.command import command
from launcher.render.container import Enclosure
from launcher.runs import attempts, events, preflight
from launcher.runs.attempts import Turn
from launcher.runs.paths import RunDir
from launcher.runs.stopping import DEADLINE

_EARLIEST_S = 60.0
"""SLURM's request before the limit may come so much earlier than it was ordered for."""
_NODE_FAILED = re.compile(r"^srun: error: Node failure on ([\w.-]+)", re.MULTILINE)
"""srun's word for a node that SLURM has given up; its exit code is 0 all the same."""


class Allocation:
    """What the batch script of a job has been given."""

    def __init__(
        self,
        run_dir: RunDir,
        environ: Mapping[str, str],
        step: Sequence[str],
        stages: Stages | None,
        say: Callable[[str], None],
        *,
        box: Enclosure | None = None,
        number: int = 0,
        lead_s: float = 120.0,
        preemptible: bool = True,
    ) -> None:
        """What SLURM says of it.

        Args:
            run_dir: the run.
            environ: SLURM's variables.
            step: the command that starts the training on every node.
            stages: where the profile wants stages to run; None: all of them here.
            say: takes lines for people.
            box: the container of the other stages; the step brings its own.
            number: of this job among those queued up front, from 0.
            lead_s: seconds before the time limit at which SLURM asks to leave.
            preemptible: the job is a batch job, which SLURM may end and give another turn.
        """
        self.run_dir = run_dir
        self.job_id = own_id(environ)
        self.partition = environ.get("SLURM_JOB_PARTITION")
        self.restarts = int(environ.get("SLURM_RESTART_COUNT") or 0)
        self.nodes = client.hostnames(environ["SLURM_JOB_NODELIST"])
        self.until = self._deadline()
        """Unix time in seconds at which the job reaches its limit; None where it has none, or nobody answers."""
        self.turn = Turn(self.job_id, max(self.restarts, number) + 1)
        self.preemptible = preemptible
        self._lead_s = lead_s
        self._step = tuple(step)
        self._stages = stages
        self._say = say
        self._box = box
        self._started = 0
        self._bad = False
        self._judged = 0
        self._preempted = False

    def takes(self, job: Job, plan: Plan) -> bool:
        """Whether a stage runs in this job: not where the profile gives it one of its own, or the time is too short."""
        if self._stages is None or job.stage == "train":
            return True
        match getattr(self._stages, job.stage), job.stage:
            case "job", "prepare":  # that job may have been cancelled, or its data outdated
                return True
            case "job", _:
                return False
            case "auto", "export":
                left = math.inf if self.until is None else self.until - time.time()
                return time_left.fits(plan, self.run_dir, left)
            case "auto", _:  # the ranks have measured it, unless the time was too short for them
                return False
            case _:
                return True

    def argv(self, job: Job, run_dir: RunDir) -> list[str]:
        """The step for the training; any other stage is a process beside the batch script."""
        if job.stage == "train":
            return list(self._step)
        if self._box is None:
            return command(job, run_dir.root, sys.executable)
        return self._box.alone(command(job, run_dir.root, self._box.container.python))

    def env(self, job: Job) -> dict[str, str]:
        """Where the ranks meet. The meeting has an id of its own each time, so that none of an older one joins."""
        if job.stage != "train":
            return {}
        self._started += 1
        return {"MASTER_ADDR": self.nodes[0], "LAUNCHER_MEETING": f"{self.job_id}.{self.restarts}.{self._started}"}

    def ask(self) -> None:
        """USR1 to every process of the job's steps; not to this one."""
        events.append(self.run_dir.events, "asked", by="scheduler")
        with contextlib.suppress(LauncherError):  # the stop file is there
            client.call("scancel", "--signal=USR1", self.job_id)

    def end(self) -> None:
        """Kill the job's steps on all nodes; this process is not in one."""
        with contextlib.suppress(LauncherError):
            listed = client.call("squeue", "-h", "-s", "-j", self.job_id, "-o", "%i").out.split()
            for each in listed:
                if each.rpartition(".")[2].isdigit():
                    client.call("scancel", "--signal=KILL", each)

    def means_now(self, warnings: int) -> bool:
        """A preemption does. The warning before the time limit may come a minute early: then it means its own time.

        Where the controller does not say which it was, now.
        """
        if warnings != self._judged:
            self._judged, self._preempted = warnings, self._is_preempted()
        return self._preempted or self.until is None or time.time() >= self.until - self._lead_s

    def _is_preempted(self) -> bool:
        try:
            known = client.job(self.job_id) or {}
        except LauncherError:
            return True
        if known.get("PreemptTime", "None") in ("None", "") and known.get("TimeLimit"):
            return self.until is not None and self.until - time.time() > self._lead_s + _EARLIEST_S
        return True

    def wants_back(self) -> str:
        """Near the limit it is the limit; at any other time, the nodes are for another job."""
        if self._preempted:
            return "preempted"
        left = math.inf if self.until is None else self.until - time.time()
        return "time limit" if left < self._lead_s + _EARLIEST_S else "preempted"

    def is_bad(self) -> bool:
        """A node was found to be bad: in this turn, or in one before it."""
        return self._bad

    def fault(self, run_dir: RunDir, attempt: int) -> LauncherError | None:
        """What the nodes found before the ranks started, where that ended the attempt."""
        if any(note.who.isdigit() for note in attempts.exits(run_dir, attempt)):
            return None  # the ranks had started
        if lost := _NODE_FAILED.search("\n".join(outcome.tail(run_dir.stage_log(attempt, "train")))):
            bad_nodes.remember(run_dir, {lost[1]: "SLURM lost it"})
            self._bad = True
            return MachineFailed(f"node {lost[1]}: SLURM lost it")
        if not preflight.reports(run_dir, attempt):
            log = "\n".join(f"       | {line}" for line in outcome.tail(run_dir.stage_log(attempt, "train")))
            return MachineFailed(f"SLURM did not start anything on the nodes\n{log}".rstrip())
        found = preflight.verdict(run_dir, attempt, self.nodes)
        for line in found.warnings:
            self._say(f"warning: {line}")
        if found.bad:
            bad_nodes.remember(run_dir, found.bad)
            self._bad = True
            return MachineFailed("; ".join(f"node {name}: {why}" for name, why in found.bad.items()))
        if found.faults:
            return EnvironmentFault("; ".join(found.faults))
        return (
            MachineFailed(f"{len(found.missing)} of {len(self.nodes)} nodes did not report") if found.missing else None
        )

    def is_behind(self) -> bool:
        """The run's last attempt belongs to a turn before this one, not to somebody else."""
        last = attempts.read(self.run_dir, max(attempts.numbers(self.run_dir), default=0))
        return last is not None and last.turn is not None and last.turn.number < self.turn.number

    def left_behind(self) -> dict[str, str]:
        """Bad nodes of older turns that this job has got all the same."""
        with contextlib.suppress(SubmissionError):
            bad_nodes.remember(self.run_dir, bad_nodes.lost(self.run_dir))
        return bad_nodes.among(self.run_dir, self.nodes)

    def was_asked_for_since(self, run_dir: RunDir) -> bool:
        """A person wants this turn after the wish to stop: typed it in the allocation, or submitted the script by hand since."""
        if not self.preemptible:
            return True
        with contextlib.suppress(LauncherError, OSError, KeyError, ValueError):
            job = client.job(self.job_id) or {}
            if not job.get("Comment", "").startswith(
                "launcher:"
            ):  # of those, `launcher run` takes the wish away itself
                submitted = datetime.fromisoformat(job["SubmitTime"]).timestamp()
                return int(run_dir.stop_request.stat().st_mtime) <= submitted
        return False

    def _deadline(self) -> float | None:
        with contextlib.suppress(SubmissionError):
            left = client.seconds(client.call("squeue", "-h", "-j", self.job_id, "-o", "%L").out.strip())
            return None if left is None else time.time() + left
        return None


def own_id(environ: Mapping[str, str]) -> str:
    """Id of the job around this process. In an array `ARRAY_INDEX`: one of its elements has the number of the whole array."""
    array, index = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else environ["SLURM_JOB_ID"]


def variables(environ: Mapping[str, str], deadline: float | None) -> dict[str, str]:
    """What every stage of the job needs: when it will be over."""
    known = environ.get(DEADLINE)
    return {} if deadline is None or known else {DEADLINE: f"{deadline:.3f}"}
