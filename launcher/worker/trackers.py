"""The trackers: how each is opened on the run directory's own run, what it has of that, and its settings."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState

from launcher.plan.types import Plan
from launcher.runs import record
from launcher.runs.paths import RunDir
from launcher.worker.sent import Mark, mark, tells_kind


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


@contextlib.contextmanager
def _tensorboard(run: TrackedRun, state: TrainerState) -> Iterator[Opened]:
    """Steps that a restarted run trains again replace those shown so far, be it from the first on."""
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    folder = run.folder / "tensorboard"
    again = state.global_step + 1 if folder.exists() else None
    yield TensorBoardCallback(SummaryWriter(str(folder), purge_step=again)), run.config


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


OPEN: dict[str, Open] = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}


Have = Callable[[TrackedRun, TrainerState], Iterable[Mark] | None]
"""Which logs an open tracker has, by its own word; None: it cannot be asked now, and what was noted counts."""


def _in_tensorboard(run: TrackedRun, state: TrainerState) -> Iterable[Mark]:
    """What its files hold of the steps that are not trained again: it has just dropped the others."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    files = EventAccumulator(str(run.folder / "tensorboard"), size_guidance={SCALARS: 0}).Reload()
    names = [name for name in files.Tags()[SCALARS] if tells_kind(_name(name))]
    points = ((each.step, name) for name in names for each in files.Scalars(name))
    return [mark(step, [_name(name)]) for step, name in points if step <= state.global_step]


def _in_mlflow(_: TrackedRun, __: TrainerState) -> Iterable[Mark]:
    """What has arrived: MLflow sends on threads of its own, which die with the process."""
    import mlflow

    run = mlflow.active_run().info.run_id
    client = mlflow.MlflowClient()
    names = [name for name in client.get_run(run).data.metrics if tells_kind(name)]
    return [mark(each.step, (name,)) for name in names for each in client.get_metric_history(run, name)]


def _in_trackio(run: TrackedRun, _: TrainerState) -> Iterable[Mark] | None:
    """What has arrived: Trackio writes twice a second. Only its store on this machine can be asked."""
    if os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL"):
        return None
    from trackio.sqlite_storage import SQLiteStorage

    rows = SQLiteStorage.get_logs(run.project, run.name)
    return [mark(int(row[_STEP]), [_name(key) for key in row]) for row in rows if _STEP in row]


_STEP = "train/global_step"


def _name(key: str) -> str:
    """A metric as it was logged, before the integration put it under `train/` or `eval/`."""
    return key.removeprefix("train/").replace("eval/", "eval_", 1)


HAVE: dict[str, Have] = {"tensorboard": _in_tensorboard, "mlflow": _in_mlflow, "trackio": _in_trackio}


_FLUSHED = {"WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "1"}
"""Seconds after which W&B's process has written to its file what it was given; by default 15, lost with a kill."""


def environment(name: str, run: TrackedRun) -> dict[str, str]:
    """Settings that a tracker reads from the environment. Models are never uploaded and output is not captured."""
    if name == "wandb":
        names = {"WANDB_RUN_ID": run.id, "WANDB_PROJECT": run.project, "WANDB_DIR": str(run.folder)}
        fixed = {
            "WANDB_RESUME": "allow",
            "WANDB_LOG_MODEL": "false",
            "WANDB_WATCH": "false",
            "WANDB_CONSOLE": "off",
            **_FLUSHED,
        }
        asked = {"WANDB_ENTITY": run.entity, "WANDB_TAGS": ",".join(run.tags)}
        return {**names, **fixed, **{key: value for key, value in asked.items() if value}}
    if name == "mlflow":
        return {"MLFLOW_TRACKING_URI": os.environ.get("MLFLOW_TRACKING_URI") or _mlflow_store(run)}
    if name == "trackio":
        return {"TRACKIO_DIR": os.environ.get("TRACKIO_DIR") or str(run.folder / "trackio")}
    return {}


def _mlflow_store(run: TrackedRun) -> str:
    return f"sqlite:///{run.folder.absolute()}/mlflow.db"


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
