"""The local executor: one attempt of a run on this machine, stage after stage, in the foreground.

It holds the run's lock from first to last, starts each stage as a child in a session of its own, follows
`events.jsonl`, and turns exit notes into one exit code. It prints nothing: a `View` shows what happens.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from launcher.errors import EnvironmentFault, Exit, LauncherError, LeftAtOnce
from launcher.executors import outcome, prepared
from launcher.executors.interrupts import Interrupts
from launcher.executors.processes import Child, end_survivors, survivors
from launcher.plan import codec
from launcher.plan.types import Job, Plan
from launcher.render.command import command
from launcher.runs import attempts, checkpoints, choice, events, lock, record, state
from launcher.runs.attempts import Attempt
from launcher.runs.files import write_text
from launcher.runs.paths import RunDir
from launcher.runs.record import Record

_POLL_S = 0.2
_FAILURE_GRACE_S = 30.0
"""After one rank has failed, the others can wait for it for ever in a collective; then they are ended."""


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


class Superseded(Exception):
    """Between choosing a run and holding its lock, another launcher has given it another identity: choose again."""


def run(run_dir: RunDir, view: View, *, identity: Mapping[str, Any] | None = None) -> Exit | None:
    """Run or continue this directory until it is done, stopped or failed.

    Args:
        run_dir: the run.
        view: shows what happens.
        identity: what the run must be when its lock is held; None: whatever it is.

    Returns:
        `DONE` or `SAVED_AND_STOPPED`; None when another process is running it.

    Raises:
        LauncherError: a stage failed; the message names the first failure.
        OSError: the run directory cannot be written.
        Superseded: the run has another identity by now.
    """
    return _held(run_dir, view, identity, ("prepare", "train", "evaluate", "export"))


def prepare(run_dir: RunDir, view: View, *, identity: Mapping[str, Any] | None = None) -> Exit | None:
    """Make this directory's data ready and leave the rest to `run`. An attempt is begun only when there is something to do.

    Arguments, returns and errors are those of `run`.
    """
    return _held(run_dir, view, identity, ("prepare",))


def _held(run_dir: RunDir, view: View, identity: Mapping[str, Any] | None, stages: Sequence[str]) -> Exit | None:
    with lock.hold(run_dir) as taken:
        if not taken:
            return None
        with Interrupts(run_dir) as interrupts:
            held = _Run(run_dir, view, interrupts, stages)
            if identity is not None and held.record.identity != identity:
                raise Superseded
            run_dir.stop_request.unlink(missing_ok=True)
            return held.attempt() if held.has_work() else Exit.DONE


class _Run:
    """One attempt, while this process holds the lock."""

    def __init__(self, run_dir: RunDir, view: View, interrupts: Interrupts, stages: Sequence[str]) -> None:
        self.run_dir = run_dir
        self.stages = stages
        self.view = view
        self.interrupts = interrupts
        self.plan: Plan = codec.loads(run_dir.plan.read_text(encoding="utf-8"))
        self.record: Record = _record(run_dir)
        self.offset = run_dir.events.stat().st_size if run_dir.events.exists() else 0

    def has_work(self) -> bool:
        """Something is to be done beside data that is ready, be it to note by which plan it is."""
        jobs = [job for job in self.plan.jobs if job.stage in self.stages]
        ready = prepared.is_current(self.run_dir, self.plan) and not choice.claimed(self.run_dir)
        return any(job.stage != "prepare" for job in jobs) or not ready

    def attempt(self) -> Exit:
        self._clear_away()
        attempt = attempts.begin(self.run_dir)
        code = Exit.RUN_FAILED
        reason: str | None = "the launcher itself failed"
        try:
            code, reason = self._stages(attempt), None
        except LauncherError as error:
            code, reason = error.exit_code, error.message.splitlines()[0]
            raise
        except OSError as error:
            code, reason = Exit.ENVIRONMENT, str(error)
            raise
        finally:
            with contextlib.suppress(OSError):  # a full disk: the error itself is what matters
                attempts.end(self.run_dir, attempt, code, reason)
        return code

    def _stages(self, attempt: Attempt) -> Exit:
        write_text(self.run_dir.attempt_plan(attempt.number), codec.dumps(self.plan))
        self._say("attempt", attempt=attempt.number, pid=os.getpid(), host=platform.node())
        for job in self.plan.jobs:
            if job.stage in self.stages and not self._stage(job, attempt):
                return Exit.SAVED_AND_STOPPED
        if "train" not in self.stages:
            return Exit.DONE
        self._report()
        write_text(self.run_dir.done, "")
        return Exit.DONE

    def _report(self) -> None:
        """A run is done even when its report cannot be drawn."""
        try:
            from launcher.render.report import html

            write_text(self.run_dir.report, html(self.run_dir))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not fail a trained run
            self.view.note(f"report.html could not be written: {error}")

    def _clear_away(self) -> None:
        """What an earlier attempt left: processes, a torn last event, half a checkpoint."""
        left = survivors(self.run_dir, self.record.id)
        if left:
            self.view.note(
                f"waiting for {len(left)} processes of the last attempt to save and leave (Ctrl-C ends them)"
            )
            end_survivors(self.run_dir, self.record.id, urgent=self.interrupts.asked)
        self.run_dir.done.unlink(missing_ok=True)
        events.heal(self.run_dir.events)
        checkpoints.sweep(self.run_dir)

    def _stage(self, job: Job, attempt: Attempt) -> bool:
        """True when the stage has ended well, False when it left on request."""
        if job.stage == "prepare" and prepared.is_current(self.run_dir, self.plan):
            self._say("stage", stage=job.stage, state="skipped")
            return True
        self._say("stage", stage=job.stage, state="started")
        try:
            went_on = self._prepare(job, attempt) if job.stage == "prepare" else self._train(job, attempt)
        except LauncherError:
            with contextlib.suppress(OSError):
                self._say("stage", stage=job.stage, state="failed")
            raise
        self._say("stage", stage=job.stage, state="done" if went_on else "stopped")
        return went_on

    def _prepare(self, job: Job, attempt: Attempt) -> bool:
        prepared.check_placement(self.run_dir, data=not self.run_dir.data_facts.exists())
        log, shown = self.run_dir.stage_log(attempt.number, job.stage), 0
        with self._child(job, attempt) as child:
            while (code := child.poll()) is None:
                shown = self._relay_output(log, shown)
                self._relay_events()
                if self.interrupts.asked():
                    self.view.note("stopped while preparing the data; nothing was trained")
                    return False
                time.sleep(_POLL_S)
        self._relay_output(log, shown)
        self._relay_events()
        if fault := outcome.prepare_fault(self.run_dir, attempt.number, code):
            raise fault
        self.record = prepared.remember(self.run_dir, self.plan, self.record)
        return True

    def _train(self, job: Job, attempt: Attempt) -> bool:
        prepared.check_placement(self.run_dir, data=False)
        self._announce(attempt)
        with self._child(job, attempt) as child:
            code = self._watch(child, attempt)
        self._relay_events()
        end_survivors(self.run_dir, self.record.id, urgent=lambda: True)
        return outcome.train_code(self.run_dir, attempt.number, code, ranks=job.processes) == Exit.DONE

    def _watch(self, child: Child, attempt: Attempt) -> int:
        told, failed_at = False, None
        while (code := child.poll()) is None:
            self._relay_events()
            if self.interrupts.urgent():
                self._leave(child)
            if self.interrupts.asked() and not told:
                told = True
                self._ask(child)
            if failed_at is None and attempts.first_failure(attempts.exits(self.run_dir, attempt.number)):
                failed_at = time.monotonic()
            if failed_at is not None and time.monotonic() - failed_at > _FAILURE_GRACE_S:
                child.kill()
            time.sleep(_POLL_S)
        return code

    def _ask(self, child: Child) -> None:
        """Ask the ranks to save and leave: by the stop file, or by a signal when the disk is too full for one."""
        self.view.note("saving at the next step, then leaving (Ctrl-C again leaves at once, without saving)")
        try:
            self.run_dir.stop_request.touch()
        except OSError:
            child.terminate()

    def _leave(self, child: Child) -> None:
        child.kill()
        end_survivors(self.run_dir, self.record.id, urgent=lambda: True)
        raise LeftAtOnce("left at once, without saving", hint="the same command goes on from the last checkpoint")

    def _announce(self, attempt: Attempt) -> None:
        found = checkpoints.newest(self.run_dir)
        for refused in found.passed_over:
            self.view.note(f"{refused.path.name} is passed over: {refused.reason}")
        if found.checkpoint:
            self.view.note(f"continuing from {found.checkpoint.path.name} (attempt {attempt.number})")
        elif attempt.number > 1 and state.trained(self.run_dir):
            self.view.note(f"no complete checkpoint yet: starting from step 0 (attempt {attempt.number})")

    def _child(self, job: Job, attempt: Attempt) -> Child:
        env = {
            **os.environ,
            **job.env,
            "LAUNCHER_RUN_ID": self.record.id,
            "LAUNCHER_ATTEMPT": str(attempt.number),
            "PYTHONSAFEPATH": "1",  # a file `datasets.py` in the current directory must not stand in for the library
        }
        argv = command(job, self.run_dir.root.resolve(), sys.executable)
        return Child(argv, env, self.run_dir.stage_log(attempt.number, job.stage))

    def _say(self, name: events.EventName, **fields: Any) -> None:
        events.append(self.run_dir.events, name, **fields)
        self._relay_events()

    def _relay_events(self) -> None:
        found, self.offset = events.follow_from(self.run_dir.events, self.offset)
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


def _record(run_dir: RunDir) -> Record:
    found = record.read(run_dir)
    if found is None:
        raise EnvironmentFault(f"{run_dir.record} is missing or damaged: {run_dir.root} is not a run")
    return found
