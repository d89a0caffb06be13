"""One attempt of a run on this machine: its stages as children, one after another, watched until each has ended."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from launcher.errors import LeftAtOnce
from launcher.executors import outcome, prepared, probe
from launcher.executors.host import Here, Host
from launcher.executors.interrupts import Interrupts
from launcher.executors.outcome import Ended
from launcher.executors.processes import Child, end_survivors
from launcher.plan import codec
from launcher.plan.types import Job, Plan
from launcher.runs import attempts, events, names, state
from launcher.runs.attempts import Attempt
from launcher.runs.files import write_text
from launcher.runs.paths import RunDir
from launcher.runs.record import Record
from launcher.runs.stopping import with_limit

_POLL_S = 0.2
_FAILURE_GRACE_S = 30.0
"""After one rank has failed, the others can wait for it for ever in a collective; then they are ended. So is what started
ranks that have all left."""


class View(Protocol):
    """Shows what an executor does."""

    def note(self, text: str) -> None:
        """Show one line about the launcher's own doings."""

    def event(self, event: Mapping[str, Any]) -> None:
        """Show one event of the run."""

    def output(self, line: str) -> None:
        """Show one line of a stage's output."""

    def tick(self) -> None:
        """Some time has passed."""


class Stages:
    """The stages of one attempt, while this process holds the lock."""

    def __init__(
        self,
        run_dir: RunDir,
        plan: Plan,
        known: Record,
        attempt: Attempt,
        view: View,
        interrupts: Interrupts,
        *,
        wanted: Sequence[str],
        began: float,
        host: Host | None = None,
    ) -> None:
        """`wanted`: the stages to run; `began`: Unix time in seconds from which the time limit of a job counts; `host`: None is this machine."""
        self.run_dir = run_dir
        self.plan = plan
        self.record = known
        self.attempt = attempt
        self.view = view
        self.interrupts = interrupts
        self.wanted = wanted
        self.began = began
        self.host = host or Here()
        self.done: set[str] = set()
        """Stages that have ended well."""
        self._offset = run_dir.events.stat().st_size if run_dir.events.exists() else 0

    def run(self) -> Ended:
        """Run them until one does not end well or is asked to stop.

        Raises:
            LeftAtOnce: a second Ctrl-C.
            LauncherError: something is not where the plan says; no process was started for it.
            OSError: the run directory cannot be written.
        """
        write_text(self.run_dir.attempt_plan(self.attempt.number), codec.dumps(self.plan))
        self._say("attempt", attempt=self.attempt.number, pid=os.getpid(), host=platform.node())
        for job in self.plan.jobs:
            if job.stage not in self.wanted or not self.host.takes(job, self.plan):
                continue
            if (ended := self.one(job)).cause != "finished":
                return ended
            self.done.add(job.stage)
        return Ended("finished")

    def one(self, job: Job) -> Ended:
        """Run one stage, unless what it makes is there.

        Raises:
            As `run`.
        """
        if self._done_before(job):
            self._say("stage", stage=job.stage, state="skipped")
            return Ended("finished")
        self._say("stage", stage=job.stage, state="started")
        state = "failed"
        try:
            ended = self._by_stage(job)
            state = {"finished": "done", "stopped": "stopped"}.get(ended.cause, "failed")
        finally:
            with contextlib.suppress(OSError):
                self._say("stage", stage=job.stage, state=state)
        return ended

    def _done_before(self, job: Job) -> bool:
        """Data that is ready; a training that is over, where stages behind it are left; a result that was measured."""
        match job.stage:
            case "prepare":
                return prepared.is_current(self.run_dir, self.plan)
            case "train":
                return self.plan.jobs[-1].stage != "train" and state.complete(self.run_dir)
            case "evaluate":
                return state.evaluated(self.run_dir)
            case _:
                return False

    def _by_stage(self, job: Job) -> Ended:
        match job.stage:
            case "prepare":
                return self._prepare(job)
            case "evaluate" | "export":
                return self._behind_training(job)
            case _:
                return self._train(job)

    def _prepare(self, job: Job) -> Ended:
        prepared.check_placement(self.run_dir, data=not self.run_dir.data_facts.exists())
        ended = self._alone(job, relayed=True, when_stopped="stopped while preparing the data; nothing was trained")
        if ended.cause == "finished":
            prepared.remember(self.run_dir, self.plan, self.record)
        return ended

    def _behind_training(self, job: Job) -> Ended:
        prepared.check_placement(self.run_dir, data=False)
        doing = outcome.DOING[job.stage]
        return self._alone(
            job, relayed=False, when_stopped=f"stopped while {doing}; what was trained lies in the run's model/"
        )

    def _alone(self, job: Job, *, relayed: bool, when_stopped: str) -> Ended:
        """A stage of one process, which has nothing to save when it is to stop. `relayed`: its log is for people."""
        log, shown = self.run_dir.stage_log(self.attempt.number, job.stage), 0
        with self._child(job) as child:
            while (code := child.poll()) is None:
                shown = self._relay_output(log, shown) if relayed else shown
                self._relay_events()
                if self.interrupts.asked():
                    self.view.note(when_stopped)
                    return Ended("stopped")
                time.sleep(_POLL_S)
        if relayed:
            self._relay_output(log, shown)
        self._relay_events()
        return outcome.of_stage(self.run_dir, self.attempt.number, code, job.stage)

    def elsewhere(self, run_dir: RunDir, view: View) -> Stages:
        """The training of another directory, as an attempt of its own, on this host."""
        return Stages(
            run_dir, codec.loads(run_dir.plan.read_text(encoding="utf-8")), self.record, attempts.begin(run_dir), view,
            self.interrupts, wanted=("train",), began=self.began, host=self.host,
        )  # fmt: skip

    def _train(self, job: Job) -> Ended:
        prepared.check_placement(self.run_dir, data=False)
        if probe.is_due(self) and (tried := probe.settle(self)).cause != "finished":
            return tried
        ranks = job.processes * job.nodes
        with self._child(job) as child:
            code = self._watch(child, ranks)
            if code < 0:  # srun was killed: what it started may live on, on other machines
                self.host.end()
        self._relay_events()
        end_survivors(self.run_dir, self.record.id, urgent=lambda: True)
        if fault := self.host.fault(self.run_dir, self.attempt.number):
            return outcome.of_error(fault)
        return outcome.trained(self.run_dir, self.attempt.number, code, self.plan, ranks=ranks)

    def _watch(self, child: Child, ranks: int) -> int:
        told, over_at = False, None
        while (code := child.poll()) is None:
            self._relay_events()
            if self.interrupts.urgent():
                self._leave(child)
            if self.interrupts.asked() and not told:
                told = True
                self._ask(child)
            if over_at is None and self._is_over(ranks):
                over_at = time.monotonic()
            if over_at is not None and time.monotonic() - over_at > _FAILURE_GRACE_S:
                self._kill(child)
            time.sleep(_POLL_S)
        return code

    def _is_over(self, ranks: int) -> bool:
        """A rank has failed, or all have left: what started them may not notice, where SLURM's daemon of the step was killed."""
        notes = attempts.exits(self.run_dir, self.attempt.number)
        return attempts.first_failure(notes) is not None or sum(note.who.isdigit() for note in notes) == ranks

    def _ask(self, child: Child) -> None:
        """Ask the ranks to save and leave: by the stop file, or by a signal when the disk is too full for one."""
        self.view.note("saving at the next step, then leaving (Ctrl-C again leaves at once, without saving)")
        try:
            self.run_dir.stop_request.touch()
        except OSError:
            child.terminate()
        self.host.ask()

    def _kill(self, child: Child) -> None:
        self.host.end()
        child.kill()

    def _leave(self, child: Child) -> None:
        self._kill(child)
        end_survivors(self.run_dir, self.record.id, urgent=lambda: True)
        hint = f"`launcher run {names.typed(self.run_dir)}` goes on from the last checkpoint"
        raise LeftAtOnce("left at once, without saving", hint=hint)

    def _child(self, job: Job) -> Child:
        env = {
            **os.environ,
            **job.env,
            **with_limit(os.environ, self.began, job.time_limit_s),
            "LAUNCHER_RUN_ID": self.record.id,
            "LAUNCHER_ATTEMPT": str(self.attempt.number),
            "PYTHONSAFEPATH": "1",  # a file `datasets.py` in the current directory must not stand in for the library
            **self.host.env(job),
        }
        argv = self.host.argv(job, self.run_dir)
        return Child(argv, env, self.run_dir.stage_log(self.attempt.number, job.stage))

    def _say(self, name: events.EventName, **fields: Any) -> None:
        events.append(self.run_dir.events, name, **fields)
        self._relay_events()

    def _relay_events(self) -> None:
        found, self._offset = events.follow_from(self.run_dir.events, self._offset)
        for event in found:
            self.view.event(event)
        self.view.tick()

    def _relay_output(self, log: Path, shown: int) -> int:
        """Show the complete lines of a log behind byte `shown`; returns the offset behind them."""
        with log.open("rb") as file:
            file.seek(shown)
            block = file.read()
        end = block.rfind(b"\n") + 1
        for line in block[:end].decode(errors="replace").splitlines():
            self.view.output(line)
        self.view.tick()
        return shown + end
