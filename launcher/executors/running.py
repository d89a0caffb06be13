"""A run while one process holds its lock: attempt after attempt, until it is done or nothing helps.

What an attempt is stands in `stages`, what follows it in `runs.policy`. It prints nothing: a `View` shows what happens.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from launcher.errors import EnvironmentFault, Exit, LauncherError, LeftAtOnce, NoProgress
from launcher.executors import outcome, prepared, resplit
from launcher.executors.host import Here, Host
from launcher.executors.interrupts import Interrupts
from launcher.executors.outcome import Ended
from launcher.executors.processes import end_survivors, survivors
from launcher.executors.stages import Stages, View
from launcher.plan import codec, split
from launcher.plan.types import Plan
from launcher.runs import attempts, checkpoints, choice, events, names, policy, record, state
from launcher.runs.attempts import Attempt
from launcher.runs.files import write_text
from launcher.runs.paths import RunDir
from launcher.runs.policy import Retry, Stop, Tried
from launcher.runs.record import Record

_POLL_S = 0.1


class Running:
    """A run while this process holds its lock."""

    def __init__(
        self,
        run_dir: RunDir,
        view: View,
        interrupts: Interrupts,
        wanted: Sequence[str],
        *,
        host: Host | None = None,
        tried: Sequence[Tried] = (),
    ) -> None:
        """`host`: where its processes start; None is this machine. `tried`: attempts that count, of turns before this one."""
        self.run_dir = run_dir
        self.host = host or Here()
        self.wants_a_turn = False
        """It left its nodes, and is to go on when the scheduler gives it a turn again."""
        self.stages = wanted
        self.view = view
        self.interrupts = interrupts
        self.plan: Plan = codec.loads(run_dir.plan.read_text(encoding="utf-8"))
        self.began = time.time()
        self.tried: list[Tried] = list(tried)
        self.seen: list[str] = []
        """For each attempt that failed, its number and why, in one line."""

    @property
    def record(self) -> Record:
        """`run.json` as it stands."""
        return _record(self.run_dir)

    def has_work(self) -> bool:
        """Something is to be done beside data that is ready, be it to note by which plan it is."""
        jobs = [job for job in self.plan.jobs if job.stage in self.stages]
        ready = prepared.is_current(self.run_dir, self.plan) and not choice.claimed(self.run_dir)
        return any(job.stage != "prepare" for job in jobs) or not ready

    def until_it_ends(self) -> Exit:
        """Attempt after attempt, as long as the policy sees a use in it."""
        if told := resplit.told(self.plan, self.record):
            self.view.note(told)
        while True:
            self._let_leave()
            attempt = attempts.begin(self.run_dir, "policy" if self.tried else "person", self.host.turn)
            decision, error = self._attempt(attempt)
            if isinstance(decision, Stop):
                if error:
                    raise error
                return decision.code
            if self._leaves():
                self.wants_a_turn = True
                if error:
                    self.view.note(f"attempt {attempt.number} failed: {_first_line(error)}")
                return policy.CODES[self.tried[-1].cause]
            self.view.note(_again(decision, attempt.number + 1, policy.committed_step(self.run_dir)))
            if not self._wait(decision.after_s) and error:
                raise error

    def _leaves(self) -> bool:
        """These nodes are of no further use: they are wanted back, are bad, or did not help twice."""
        if not self.host.preemptible:
            return False
        wanted_back = self.tried[-1].cause == "stopped" or self.interrupts.asked()
        return wanted_back or self.host.is_bad() or policy.in_vain(self.tried) > 1

    def _attempt(self, attempt: Attempt) -> tuple[Retry | Stop, LauncherError | None]:
        """One attempt: what follows it, and its error where it failed. How it ended is noted, whatever happens."""
        code: int = Exit.RUN_FAILED
        noted: dict[str, Any] = {"error": "the launcher itself failed"}
        try:
            attempt = self._clear_away(attempt)
            ended = self._ended(attempt)
            to_step = policy.committed_step(self.run_dir)
            self.tried.append(Tried(ended.cause, attempt.from_step or 0, to_step))
            decision, error = self._decide(ended, attempt)
            code = (
                error.exit_code if error else decision.code if isinstance(decision, Stop) else policy.CODES[ended.cause]
            )
            noted = {"error": _first_line(error) or _reason(decision), "cause": ended.cause, "to_step": to_step}
            if isinstance(decision, Retry) and ended.cause == "stopped":
                noted["left_for"] = self.host.wants_back()
        except LauncherError as fault:
            cause = "stopped" if isinstance(fault, LeftAtOnce) else outcome.of_error(fault).cause
            code, noted = fault.exit_code, {"error": _first_line(fault), "cause": cause}
            raise
        except OSError as fault:
            code, noted = Exit.ENVIRONMENT, {"error": str(fault), "cause": "environment"}
            raise
        finally:
            with contextlib.suppress(OSError):  # a full disk: the error itself is what matters
                attempts.end(self.run_dir, attempt, code, **noted)
        return decision, error

    def _ended(self, attempt: Attempt) -> Ended:
        attempted = Stages(
            self.run_dir, self.plan, self.record, attempt, self.view, self.interrupts,
            wanted=self.stages, began=self.began, host=self.host,
        )  # fmt: skip
        try:
            ended = attempted.run()
        except LeftAtOnce:
            raise
        except LauncherError as error:
            return outcome.of_error(error)
        self.plan = attempted.plan  # a try before the training may have split the batch anew
        if ended.cause == "finished" and not set(state.left(self.run_dir)) - attempted.done:
            self._report()
            write_text(self.run_dir.done, "")
        return ended

    def _decide(self, ended: Ended, attempt: Attempt) -> tuple[Retry | Stop, LauncherError | None]:
        """What follows an attempt, and the error to show if nothing does; prepares what the next one needs."""
        rows = resplit.may_shrink(self.plan, self.record) if ended.cause == "out_of_memory" else None
        limit = self.plan.restart.max_requeues
        preemptible = self.host.preemptible and not self.interrupts.by_person()
        decision = policy.decide(self.tried, max_requeues=limit, preemptible=preemptible, smaller=rows is not None)
        if ended.error is None:
            return decision, None
        self.seen.append(f"attempt {attempt.number}: {_first_line(ended.error)}")
        if isinstance(decision, Stop):
            return decision, self._final(ended.error, decision)
        if self.interrupts.asked() and not preemptible:  # nobody waits for another attempt
            return Stop(ended.error.exit_code), ended.error
        self._tell(ended, attempt, decision)
        if rows is not None:
            self.plan = resplit.apply(self.run_dir, self.plan, rows, "policy")
            self.view.note(f"from now on {split.at_a_time(self.plan.batch)}: the same result")
        return decision, ended.error

    def _final(self, error: LauncherError, decision: Stop) -> LauncherError:
        """The error of the last attempt, with why there is no further one."""
        if decision.reason is None:
            return error
        first, *evidence = error.message.splitlines()
        if decision.code == Exit.DO_NOT_REQUEUE:
            listed = [f"       {each}" for each in self.seen[-policy.WITHOUT_PROGRESS :]]
            message = "\n".join([f"{decision.reason}, the last one: {first}", *listed, *evidence])
            look = f"`launcher logs {names.typed(self.run_dir)}` shows what the last one did"
            return NoProgress(message, hint=look)
        return type(error)("\n".join([f"{first} ({decision.reason})", *evidence]), hint=error.hint)

    def _tell(self, ended: Ended, attempt: Attempt, decision: Retry) -> None:
        first = _first_line(ended.error)
        events.append(
            self.run_dir.events,
            "retry",
            attempt=attempt.number,
            cause=ended.cause,
            error=first,
            step=policy.committed_step(self.run_dir),
            after_s=decision.after_s,
        )
        self.view.note(f"attempt {attempt.number} failed: {first}")

    def _wait(self, seconds: float) -> bool:
        """Let the machine recover. False when somebody asks for a stop meanwhile: nothing runs, so nothing is to be saved."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.interrupts.asked():
            self.view.tick()
            time.sleep(_POLL_S)
        return not self.interrupts.asked()

    def _let_leave(self) -> None:
        """Processes that an earlier attempt left on this machine may save and leave before the next one is opened."""
        left = survivors(self.run_dir, self.record.id)
        if left:
            self.view.note(
                f"waiting for {len(left)} processes of the last attempt to save and leave (Ctrl-C ends them)"
            )
            end_survivors(self.run_dir, self.record.id, urgent=self.interrupts.asked)
        self.run_dir.done.unlink(missing_ok=True)

    def _clear_away(self, attempt: Attempt) -> Attempt:
        """What an earlier attempt left: a torn last event, half a checkpoint; and where this one starts.

        Only now: ranks of an older attempt that still live elsewhere see the folder of this one and commit nothing more.
        """
        events.heal(self.run_dir.events)
        checkpoints.sweep(self.run_dir)
        found = checkpoints.newest(self.run_dir, contents=False)
        if "train" in self.stages:
            self._announce(found, attempt)
        return attempts.starts_from(self.run_dir, attempt, found.checkpoint.step if found.checkpoint else 0)

    def _announce(self, found: checkpoints.Choice, attempt: Attempt) -> None:
        for refused in found.passed_over:
            self.view.note(f"{refused.path.name} is passed over: {refused.reason}")
        if found.checkpoint:
            self.view.note(f"continuing from {found.checkpoint.path.name} (attempt {attempt.number})")
        elif attempt.number > 1 and state.trained(self.run_dir):
            self.view.note(f"no complete checkpoint yet: starting from step 0 (attempt {attempt.number})")

    def _report(self) -> None:
        """A run is done even when its report cannot be drawn."""
        try:
            from launcher.render.report import html

            write_text(self.run_dir.report, html(self.run_dir))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not fail a trained run
            self.view.note(f"report.html could not be written: {error}")


def _again(decision: Retry, number: int, step: int) -> str:
    when = f" in {decision.after_s:.0f} s" if decision.after_s else ""
    start = f"checkpoint-{step}" if step else "step 0"
    return f"trying again{when} (attempt {number}, from {start})"


def _first_line(error: LauncherError | None) -> str | None:
    return error.message.splitlines()[0] if error else None


def _reason(decision: Retry | Stop) -> str | None:
    return decision.reason if isinstance(decision, Stop) else None


def _record(run_dir: RunDir) -> Record:
    found = record.read(run_dir)
    if found is None:
        raise EnvironmentFault(f"{run_dir.record} is missing or damaged: {run_dir.root} is not a run")
    return found
