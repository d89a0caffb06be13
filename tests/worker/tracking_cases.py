"""What the forked ranks of `test_tracking.py` run where a rank is killed, and how each tracker's own files are read."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.runs.paths import RunDir
from tests.support.until import until


def killed_rank(run_dir: str, step: int, saved: int | None, told: str | None, settled_s: float) -> None:
    """A rank that is killed when `step` steps are done and checkpoint `saved` is whole; with a tracker in `told`,
    `settled_s` seconds after that one was given the step."""
    from launcher.worker import main
    from launcher.worker.trainer import Trainer

    train_step = Trainer.training_step
    run = RunDir(Path(run_dir))

    def deadly(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == step:
            if saved is not None:
                until((run.checkpoints / f"checkpoint-{saved}").exists)
            if told:
                notes = run.tracking / f"{told}.sent"
                until(lambda: notes.exists() and f"\n{step} training" in notes.read_text())
                time.sleep(settled_s)
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(self, *args, **kwargs)

    Trainer.training_step = deadly
    raise SystemExit(main.main(run_dir, os.getppid()))


def shown(run: RunDir, tracker: str) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of the training loss and of the evaluation, as the tracker's own files hold them, in their order."""
    return {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}[tracker](run)


def _tensorboard(run: RunDir) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run.tracking / "tensorboard"))
    found.Reload()
    tags = found.Tags()["scalars"]
    names = {"loss": "train/loss", "eval": "eval/held_loss"}
    return {
        key: [(each.step, each.value) for each in found.Scalars(name)] if name in tags else []
        for key, name in names.items()
    }


def _wandb(run: RunDir) -> dict[str, list[tuple[int, float]]]:
    """Offline files are leveldb logs of protocol buffers, one folder per start."""
    import json

    from wandb.proto import wandb_internal_pb2

    found: dict[str, list[tuple[int, float]]] = {"loss": [], "eval": []}
    for path in sorted((run.tracking / "wandb").glob("offline-run-*/*.wandb")):
        for block in _leveldb_records(path.read_bytes()[7:], offset=7):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(block)
            row = {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            for key, name in (("loss", "train/loss"), ("eval", "eval/held_loss")):
                if name in row:
                    found[key].append((row["train/global_step"], row[name]))
    return found


def _leveldb_records(data: bytes, offset: int) -> Iterator[bytes]:
    """Records of a leveldb log behind a header of `offset` bytes; a torn last one is left out.

    Source: leveldb, doc/log_format.md: blocks of 32 KiB; each part is checksum (4), length (2), type (1), bytes.
    """
    place, record = 0, b""
    while place + 7 <= len(data):
        if (left := 32768 - (place + offset) % 32768) < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        if kind == 0 or place + 7 + length > len(data):
            return
        record = (record if kind in (3, 4) else b"") + data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield record


def _mlflow(run: RunDir) -> dict[str, list[tuple[int, float]]]:
    names = {"loss": "loss", "eval": "eval_held_loss"}
    with contextlib.closing(sqlite3.connect(run.tracking / "mlflow.db")) as store:
        assert store.execute("select count(*) from runs").fetchall() == [(1,)]
        query = "select step, value from metrics where key = ? order by step, timestamp"
        return {key: store.execute(query, (name,)).fetchall() for key, name in names.items()}


def _trackio(run: RunDir) -> dict[str, list[tuple[int, float]]]:
    import json

    found: dict[str, list[tuple[int, float]]] = {"loss": [], "eval": []}
    with contextlib.closing(sqlite3.connect(run.tracking / "trackio" / "launcher.db")) as store:
        rows = [json.loads(row) for (row,) in store.execute("select metrics from metrics order by id")]
    for row in rows:
        for key, name in (("loss", "train/loss"), ("eval", "eval/held_loss")):
            if name in row:
                found[key].append((row["train/global_step"], row[name]))
    return found


def told(folder: str, starts: list[dict[str, Any]]) -> list[list[tuple[int, list[str]]]]:
    """What a tracker without a word of its own is told, start by start: step and metrics of each log.

    Each start goes on from `at` with the logs of `history`, then makes the logs `new`; a log is a step and its metrics.
    """
    from transformers import TrainerCallback, TrainerState, TrainingArguments

    from launcher.worker import tracking

    run = tracking.TrackedRun("id", "name", "project", None, (), Path(folder), {})
    heard: list[list[tuple[int, list[str]]]] = []

    class Recorder(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            heard[-1].append((state.global_step, sorted(logs)))

    @contextlib.contextmanager
    def opened(run: Any, state: Any) -> Any:
        yield Recorder(), {}

    for start in starts:
        heard.append([])
        args = TrainingArguments(output_dir=folder, use_cpu=True)
        history = [dict.fromkeys(names, 1.0) | {"step": step} for step, names in start["history"]]
        state = TrainerState(global_step=start["at"], log_history=history)
        tracker = tracking.Tracking(run, RunDir(Path(folder)), {"recorder": opened})
        tracker.on_train_begin(args, state)
        for step, names in start["new"]:
            state.global_step = step
            tracker.on_log(args, state, logs=dict.fromkeys(names, 1.0))
        tracker.on_train_end()
    return heard
