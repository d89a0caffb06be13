"""The end of an optimizer step: the one moment at which all ranks agree to stop, or that a number went wrong."""

from __future__ import annotations

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from launcher.runs import events
from launcher.worker.faults import Stopped
from launcher.worker.job import Job
from launcher.worker.stop import StopRequest


class Boundary(TrainerCallback):
    """Turns a stop request into a save and an end, at the same step on all ranks."""

    def __init__(self, job: Job, request: StopRequest) -> None:
        self._events = job.run_dir.events
        self._request = request
        self.stopped = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: object, **__: object) -> None:
        """A request that came while the model was loaded ends the run before its first step; there is nothing to save.

        Raises:
            Stopped: all ranks leave.
        """
        if self._asked(args):
            self._say(args, state)
            raise Stopped

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Ask all ranks whether any of them was told to stop."""
        if self._asked(args) and state.global_step < state.max_steps:
            self.stopped = control.should_save = control.should_training_stop = True
            self._say(args, state)

    def _asked(self, args: TrainingArguments) -> bool:
        (asked,) = agreed(args, float(self._request.cause() is not None))
        return asked > 0

    def _say(self, args: TrainingArguments, state: TrainerState) -> None:
        if args.process_index == 0:
            events.append(self._events, "stop", step=state.global_step, cause=self._request.cause() or "another rank")


def agreed(args: TrainingArguments, *values: float) -> list[float]:
    """The largest of each value over all ranks, in one collective operation. Every rank must call it."""
    if args.world_size == 1:
        return list(values)
    found = torch.tensor(values, dtype=torch.float32, device=args.device)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return [float(value) for value in found.tolist()]
