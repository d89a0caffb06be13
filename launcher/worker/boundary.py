"""Where all ranks agree: at the end of a step whether to stop or whether a number went wrong, and between two batches of a measurement."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from launcher.runs import events
from launcher.worker.beats import beat
from launcher.worker.faults import Stopped
from launcher.worker.finite import Finite
from launcher.worker.job import Job
from launcher.worker.stop import StopRequest

_SECONDS_BETWEEN_QUESTIONS = 1.0


class Abandoned(Exception):
    """A stop request was agreed in the midst of a measurement."""


class Boundary(TrainerCallback):
    """Turns a stop request into a save and an end, at the same step on all ranks."""

    def __init__(self, job: Job, request: StopRequest, finite: Finite) -> None:
        self._job = job
        self._request = request
        self._finite = finite
        self.stopped = False
        """The ranks have agreed to leave before the run is done."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: object, **__: object) -> None:
        """A request that came before the first step ends the run there; there is nothing to save.

        Raises:
            Stopped: all ranks leave.
        """
        leave_if_asked(self._job, args, self._request, step=state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Ask all ranks whether any of them was told to stop, or has a number that is none.

        Raises:
            RankFailed: a loss, a gradient, or a weight that was about to be saved is not finite.
        """
        beat("agree")
        asked, broken = agreed(args, _asked(self._request), float(self._finite.step_is_broken()))
        if broken:
            raise self._finite.fail(state.global_step)
        if asked and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True
            self.leave(args, state)
        if control.should_save and agreed(args, float(self._finite.weights_are_broken()))[0]:
            raise self._finite.fail(state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """A request that came during the save needs no further step: this one is saved."""
        if self.stopped or state.global_step >= state.max_steps:
            return
        beat("agree")
        if agreed(args, _asked(self._request))[0]:
            control.should_training_stop = True
            self.leave(args, state)

    def leave(self, args: TrainingArguments, state: TrainerState) -> None:
        """Note that all ranks leave at this step, which is saved or about to be."""
        self.stopped = True
        _say(self._job, args, self._request, state.global_step)

    def batches(self, args: TrainingArguments, starts: Sequence[int]) -> Iterator[int]:
        """The starts of a measurement's batches, one after another; every rank must have as many.

        About once a second all ranks ask one another whether to go on: before the first batch, behind the last, and
        between batches by their number, which all choose alike, by the slowest rank's time.

        Raises:
            Abandoned: one of them was told to stop.
        """
        ahead, left, since = 0, 0, time.monotonic()
        for start in starts:
            if left == 0:
                ahead = left = self._go_on(args, ahead, time.monotonic() - since)
                since = time.monotonic()
            beat("evaluate")
            yield start
            left -= 1
        self._go_on(args, ahead, 0.0)

    def has_time(self, args: TrainingArguments, seconds: float | None) -> bool:
        """Something that takes `seconds` (None: nobody knows) will be over in time, with what is kept to save and leave.

        Every rank must call it; rank 0 looks at the clock.
        """
        limit = self._request.limit
        short = limit is not None and (seconds is None or not limit.leaves(seconds))
        return not agreed(args, float(short))[0]

    def interrupted(self) -> bool:
        """This rank was told to stop, and the others will know it at the next question."""
        return self._request.cause() is not None

    def _go_on(self, args: TrainingArguments, batches: int, seconds: float) -> int:
        """After how many batches to ask again, when the last `batches` took `seconds` on this rank."""
        asked, slowest_s = agreed(args, _asked(self._request), seconds)
        if asked:
            raise Abandoned
        in_time = int(batches * _SECONDS_BETWEEN_QUESTIONS / max(slowest_s, 1e-6))
        return max(1, min(in_time, 2 * batches))


def leave_if_asked(job: Job, args: TrainingArguments, request: StopRequest, *, step: int | None = None) -> None:
    """End the run here, before a step was made, if any rank was told to stop. Every rank must call it.

    Args:
        job: the run.
        args: the trainer's arguments.
        request: what this rank knows.
        step: the step that the run stands at; None before that is known.

    Raises:
        Stopped: all ranks leave.
    """
    if agreed(args, _asked(request))[0]:
        _say(job, args, request, step)
        raise Stopped


def agreed(args: TrainingArguments, *values: float) -> list[float]:
    """The largest of each value over all ranks, in one collective operation. Every rank must call it."""
    if args.world_size == 1:
        return list(values)
    found = torch.tensor(values, dtype=torch.float32, device=args.device)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return [float(value) for value in found.tolist()]


def _asked(request: StopRequest) -> float:
    return float(request.cause() is not None)


def _say(job: Job, args: TrainingArguments, request: StopRequest, step: int | None) -> None:
    if args.process_index == 0:
        events.append(job.run_dir.events, "stop", step=step, cause=request.cause() or "another rank")
