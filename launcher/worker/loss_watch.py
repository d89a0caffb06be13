"""Tell of a loss that jumps, with the rows of that step; training goes on. Rank 0 only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerState, TrainingArguments

from launcher.errors import LauncherError
from launcher.runs import events
from launcher.worker import batches
from launcher.worker.job import Job
from launcher.worker.spikes import Spikes

if TYPE_CHECKING:
    from launcher.worker.watched import WatchedTrainer

_MOST_ROWS = 256


class LossWatch(TrainerCallback):
    """Judges each logged loss of the training."""

    def __init__(self, job: Job, trainer: WatchedTrainer) -> None:
        self._job = job
        self._trainer = trainer
        self._spikes = Spikes()
        self._logged = 0

    def on_train_begin(self, _args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Know the losses of earlier attempts, and from which step on this one adds to them."""
        self._logged = state.global_step
        for entry in state.log_history:
            if "loss" in entry:
                self._spikes.add(float(entry["loss"]))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, *_: Any, logs: dict[str, Any] | None = None, **__: Any
    ) -> None:
        """A logged loss is the mean of the steps since the last one."""
        if not logs or "loss" not in logs:
            return
        steps = range(self._logged + 1, state.global_step + 1)
        self._logged = state.global_step
        usual = self._spikes.add(float(logs["loss"]))
        if usual is not None:
            self._tell(args, steps, float(logs["loss"]), usual)

    def _tell(self, args: TrainingArguments, steps: range, loss: float, usual: float) -> None:
        which = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
        events.append(
            self._job.run_dir.events,
            "warning",
            message=f"the loss jumped to {loss:.4g} at {which}, it was {usual:.4g}; the rows of its batch are in events.jsonl",
            step=steps[-1], loss=loss, usual=usual, rows=self._rows(args, steps),
        )  # fmt: skip

    def _rows(self, args: TrainingArguments, steps: range) -> list[str]:
        places = ((step, rank) for step in steps for rank in range(args.world_size))
        try:
            taken = [
                row for step, rank in places for batch in batches.numbers(self._trainer, step, rank) for row in batch
            ]
            return [str(row) for row in batches.Origins(self._job).rows(taken[:_MOST_ROWS])]
        except (LookupError, LauncherError, OSError):
            return []
