"""Experiment trackers through transformers' own integrations, at a distance: none of them can stop or slow a run.

Each integration lives on a thread of its own, behind a queue of limited length. What it raises, a missing package, a
server that does not answer: one `warning` event, and the tracker is off for the rest of the attempt.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from launcher.plan.types import Plan
from launcher.runs import events, record
from launcher.runs.paths import RunDir

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
        os.environ.update(_environment(name, run))
    return [Tracking(run, run_dir, {name: _OPEN[name] for name in plan.tracking.report_to})]


@dataclasses.dataclass(frozen=True)
class TrackedRun:
    """What trackers are told about a run. The id is the run directory's, so that a restarted run goes on in its place."""

    id: str
    name: str
    project: str
    entity: str | None
    tags: tuple[str, ...]
    folder: Path
    config: Mapping[str, Any]
    """The resolved recipe and the plan, as dotted keys."""


def tracked(plan: Plan, run_dir: RunDir) -> TrackedRun:
    """What trackers are told about this run."""
    known = record.read(run_dir)
    identity = known.id if known else run_dir.name
    parts = dataclasses.asdict(plan)
    config = {"recipe": parts.pop("recipe"), "plan": parts}
    where = plan.tracking
    name = f"{run_dir.name}-{identity[:8]}"
    return TrackedRun(identity, name, where.project, where.entity, where.tags, run_dir.tracking, dict(_flat(config)))


Opened = tuple[TrainerCallback, Mapping[str, Any]]
"""transformers' integration, and the configuration to tell it."""
Open = Callable[[TrackedRun, TrainerState], AbstractContextManager[Opened]]
"""Opens a tracker and, when all is sent, closes it."""
_Log = tuple[TrainerState, dict[str, Any]]


class Tracking(TrainerCallback):
    """Hands each log to every tracker's queue and returns at once."""

    def __init__(self, run: TrackedRun, run_dir: RunDir, trackers: Mapping[str, Open]) -> None:
        self._channels = [_Channel(name, opening, run, run_dir) for name, opening in trackers.items()]
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
            for channel in self._channels:
                channel.start(args, _copied(state))


class _Channel:
    """The queue and the thread of one tracker."""

    def __init__(self, name: str, opening: Open, run: TrackedRun, run_dir: RunDir) -> None:
        self._name, self._open, self._run, self._events = name, opening, run, run_dir.events
        self._queue: queue.Queue[_Log | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._off = threading.Lock()

    def start(self, args: TrainingArguments, state: TrainerState) -> None:
        """Open the tracker on its own thread."""
        self._thread = threading.Thread(
            target=self._work, args=(args.output_dir, state), name=f"tracker {self._name}", daemon=True
        )
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

    def _work(self, output_dir: str, state: TrainerState) -> None:
        try:
            self._run.folder.mkdir(parents=True, exist_ok=True)
            with self._open(self._run, state) as (integration, config):
                told = _Arguments(output_dir, self._run, config)
                integration.on_train_begin(told, state, TrainerControl())
                for at, logs in iter(self._queue.get, None):
                    state = at
                    integration.on_log(told, state, TrainerControl(), logs=logs)
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


@contextlib.contextmanager
def _tensorboard(run: TrackedRun, state: TrainerState) -> Iterator[Opened]:
    """Steps that a restarted run trains again replace those shown so far."""
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    again = state.global_step + 1 if state.global_step else None
    yield TensorBoardCallback(SummaryWriter(str(run.folder / "tensorboard"), purge_step=again)), run.config


@contextlib.contextmanager
def _wandb(run: TrackedRun, state: TrainerState) -> Iterator[Opened]:  # noqa: ARG001 - one shape for all
    import wandb
    from transformers.integrations import WandbCallback

    yield WandbCallback(), run.config
    wandb.finish()


@contextlib.contextmanager
def _mlflow(run: TrackedRun, state: TrainerState) -> Iterator[Opened]:  # noqa: ARG001
    """MLflow gives ids itself, so ours is a tag by which a restarted run finds its place."""
    import mlflow
    from transformers.integrations import MLflowCallback

    if mlflow.get_experiment_by_name(run.project) is None:
        ours = os.environ["MLFLOW_TRACKING_URI"] == _mlflow_store(run)
        mlflow.create_experiment(run.project, (run.folder / "mlflow-artifacts").as_uri() if ours else None)
    mlflow.set_experiment(run.project)
    query = f"tags.`launcher.run_id` = '{run.id}'"
    found = mlflow.search_runs(experiment_names=[run.project], filter_string=query, output_format="list")
    tags = {"launcher.run_id": run.id, **dict.fromkeys(run.tags, "true")}
    mlflow.start_run(found[0].info.run_id if found else None, run_name=run.name, tags=tags)
    # A parameter that is written once cannot change.
    known = found[0].data.params if found else {}
    yield MLflowCallback(), {key: value for key, value in run.config.items() if key not in known}
    mlflow.flush_async_logging()
    mlflow.end_run()


@contextlib.contextmanager
def _trackio(run: TrackedRun, state: TrainerState) -> Iterator[Opened]:  # noqa: ARG001
    """Trackio finds a run again by its name, which holds our id."""
    from transformers.integrations import TrackioCallback

    yield TrackioCallback(), run.config


_OPEN: dict[str, Open] = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}


def _environment(name: str, run: TrackedRun) -> dict[str, str]:
    """Settings that a tracker reads from the environment. Models are never uploaded and output is not captured."""
    if name == "wandb":
        names = {"WANDB_RUN_ID": run.id, "WANDB_PROJECT": run.project, "WANDB_DIR": str(run.folder)}
        fixed = {"WANDB_RESUME": "allow", "WANDB_LOG_MODEL": "false", "WANDB_WATCH": "false", "WANDB_CONSOLE": "off"}
        asked = {"WANDB_ENTITY": run.entity, "WANDB_TAGS": ",".join(run.tags)}
        return {**names, **fixed, **{key: value for key, value in asked.items() if value}}
    if name == "mlflow":
        return {"MLFLOW_TRACKING_URI": os.environ.get("MLFLOW_TRACKING_URI") or _mlflow_store(run)}
    if name == "trackio":
        return {"TRACKIO_DIR": os.environ.get("TRACKIO_DIR") or str(run.folder / "trackio")}
    return {}


def _mlflow_store(run: TrackedRun) -> str:
    return f"sqlite:///{run.folder.absolute()}/mlflow.db"


def _copied(state: TrainerState) -> TrainerState:
    """The state as it is now; training goes on while a tracker reads it."""
    copied = copy.copy(state)
    copied.log_history = []
    return copied


def _flat(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings and sequences under dotted keys."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list | tuple) and value:
        for number, item in enumerate(value):
            yield from _flat(item, f"{at}.{number}")
    else:
        yield at, value
