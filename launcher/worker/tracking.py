"""Experiment trackers through transformers' own integrations, at a distance: none of them can stop or slow a run.

Each integration lives on a thread of its own, behind a queue of limited length. What it raises, a missing package, a
server that does not answer: one `warning` event, and the tracker is off for the rest of the attempt.

A run that goes on trains some steps again. What a tracker has of them already is not sent a second time: by its own
word where it can be asked, else by notes (see `launcher.worker.sent`). What it missed up to the checkpoint is in the
trainer's history and is sent first.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from launcher.plan.types import Plan
from launcher.runs import events
from launcher.runs.files import read_json
from launcher.runs.paths import RunDir
from launcher.worker.evaluate import logged
from launcher.worker.sent import Sent, mark
from launcher.worker.trackers import HAVE, OPEN, Open, TrackedRun, environment, tracked

MOST_WAITING = 1000
"""Logs that may wait for a tracker; one further behind is taken for hung."""
SECONDS_TO_FINISH = 30.0
"""How long all trackers together may take to send the rest when training has ended."""


def callbacks(plan: Plan, run_dir: RunDir) -> list[TrainerCallback]:
    """The callback that feeds the trackers; none without trackers, and none on ranks other than 0.

    Add it after all others: what they log when training ends is still sent.
    """
    if not plan.tracking.report_to or os.environ.get("RANK", "0") != "0":
        return []
    run = tracked(plan, run_dir)
    for name in plan.tracking.report_to:
        # Here and not on the thread: the environment of a process must not change while others read it.
        os.environ.update(environment(name, run))
    return [Tracking(run, run_dir, {name: OPEN[name] for name in plan.tracking.report_to})]


_Log = tuple[TrainerState, dict[str, Any]]


class Tracking(TrainerCallback):
    """Hands each log to every tracker's queue and returns at once."""

    def __init__(self, run: TrackedRun, run_dir: RunDir, trackers: Mapping[str, Open]) -> None:
        self._channels = [_Channel(name, opening, run, run_dir) for name, opening in trackers.items()]
        self._base = run_dir.evaluation("base")
        self._started = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: object, **__: object) -> None:
        """Open the trackers."""
        self._start(args, state)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, *_: object, logs: Mapping[str, Any], **__: object
    ) -> None:
        """Pass the numbers on."""
        self._start(args, state)  # the untuned model may be measured before this callback hears of the beginning
        for channel in self._channels:
            channel.send((_copied(state), dict(logs)))

    def on_train_end(self, *_: object, **__: object) -> None:
        """Let the trackers send what is left, for a limited time."""
        for channel in self._channels:
            channel.send(None)
        deadline = time.monotonic() + SECONDS_TO_FINISH
        for channel in self._channels:
            channel.wait(deadline)

    def _start(self, args: TrainingArguments, state: TrainerState) -> None:
        if not self._started:
            self._started = True
            # At step 0 there is no checkpoint, and what is in the history now is about to be sent.
            made = state.log_history if state.global_step else []
            known = [_told(state, log) for log in (*_measured_first(self._base), *made)]
            for channel in self._channels:
                channel.start(args, _copied(state), known)


class _Channel:
    """The queue and the thread of one tracker."""

    def __init__(self, name: str, opening: Open, run: TrackedRun, run_dir: RunDir) -> None:
        self._name, self._open, self._run, self._events = name, opening, run, run_dir.events
        self._queue: queue.Queue[_Log | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._off = threading.Lock()

    def start(self, args: TrainingArguments, state: TrainerState, history: Sequence[_Log]) -> None:
        """Open the tracker on its own thread. `history`: the logs up to the checkpoint that the run goes on from."""
        work = (args.output_dir, state, history)
        self._thread = threading.Thread(target=self._work, args=work, name=f"tracker {self._name}", daemon=True)
        self._thread.start()

    def send(self, log: _Log | None) -> None:
        """Queue a log; None asks the tracker to close."""
        if self._off.locked():
            return
        try:
            self._queue.put_nowait(log)
        except queue.Full:
            self._switch_off(f"it is {MOST_WAITING:,} logs behind")

    def wait(self, deadline: float) -> None:
        """Wait for the tracker to close, until `deadline` (monotonic seconds)."""
        if self._thread is None or self._off.locked():
            return
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._switch_off(f"it did not finish within {SECONDS_TO_FINISH:.0f} s")

    def _work(self, output_dir: str, state: TrainerState, history: Sequence[_Log]) -> None:
        try:
            self._run.folder.mkdir(parents=True, exist_ok=True)
            sent = Sent(self._run.folder / f"{self._name}.sent")
            if state.global_step and not sent.kept:  # there was an attempt, without notes: it may have sent them all
                sent.add(mark(at.global_step, logs) for at, logs in history)
            sent.add(())
            with self._open(self._run, state) as (integration, config):
                told = _Arguments(output_dir, self._run, config)
                integration.on_train_begin(told, state, TrainerControl())
                if self._name in HAVE and (has := HAVE[self._name](self._run, state)) is not None:
                    sent.replace(has)
                for at, logs in chain(history, iter(self._queue.get, None)):
                    state = at
                    if (log := mark(at.global_step, logs)) not in sent:
                        sent.add([log])
                        integration.on_log(told, at, TrainerControl(), logs=logs)
                integration.on_train_end(told, state, TrainerControl())
        except BaseException as error:  # noqa: BLE001 - a tracker that fails is switched off, whatever it raised
            self._switch_off(f"{type(error).__name__}: {error}")

    def _switch_off(self, reason: str) -> None:
        if self._off.acquire(blocking=False):
            line = " ".join(f"tracker `{self._name}` is off: {reason}".split())
            with contextlib.suppress(OSError):
                events.append(self._events, "warning", message=line[:500])


class _Arguments:
    """What the integrations read of TrainingArguments; their configuration is ours."""

    trackio_space_id = None
    trackio_bucket_id = None
    trackio_static_space_id = False
    hub_private_repo = None

    def __init__(self, output_dir: str, run: TrackedRun, config: Mapping[str, Any]) -> None:
        self.output_dir = output_dir
        self.run_name = run.name
        self.project = run.project
        self._config = dict(config)

    def to_dict(self) -> dict[str, Any]:
        return dict(self._config)

    def to_json_string(self) -> str:
        return json.dumps(self._config, indent=2, default=str)


def _copied(state: TrainerState) -> TrainerState:
    """The state as it is now; training goes on while a tracker reads it."""
    copied = copy.copy(state)
    copied.log_history = []
    return copied


def _measured_first(base: Path) -> Iterator[Mapping[str, Any]]:
    """The untuned model as it was logged; a run that begins anew at step 0 does not measure it again."""
    found = read_json(base) or {}
    if values := logged(found.get("losses") or {}, found.get("sets") or {}):
        yield {"step": 0, "epoch": 0, **values}


def _told(state: TrainerState, log: Mapping[str, Any]) -> _Log:
    """An entry of the trainer's history as it was logged: the state at that time, and the numbers."""
    then = _copied(state)
    then.global_step, then.epoch = int(log["step"]), log.get("epoch")
    return then, {name: value for name, value in log.items() if name != "step"}
