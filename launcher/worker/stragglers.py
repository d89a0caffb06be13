"""Tell, once per rank, of a rank that the others keep waiting for. Nothing is ended."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from statistics import median_low
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerState, TrainingArguments

from launcher.runs import events
from launcher.worker.boundary import agreed
from launcher.worker.job import Job

if TYPE_CHECKING:
    from launcher.worker.watched import WatchedTrainer

_STEPS = 50
_SHARE = 1.3
_LEAST_S = 0.02
"""Per step; less than that is noise, whatever share of a short step it is."""


def slow(own_s: Sequence[float]) -> list[int]:
    """Ranks that take more than 1.3 times the median of all ranks (the lower one, of an even number), and 20 ms more.

    Args:
        own_s: [ranks] seconds per step that each rank spent on its own, waiting for nobody.
    """
    usual = median_low(own_s)
    return [rank for rank, mine in enumerate(own_s) if mine > _SHARE * usual and mine - usual > _LEAST_S]


class Stragglers(TrainerCallback):
    """Compares, every 50 steps, what each rank spent on fetching rows and on its forward passes.

    On a GPU only the time to fetch rows is known here: a forward pass returns before the GPU has done it.
    """

    def __init__(self, job: Job, trainer: WatchedTrainer) -> None:
        self._events = job.run_dir.events
        self._trainer = trainer
        self._own_s = 0.0
        self._steps = 0
        self._hosts: list[str] = []
        self._told: set[int] = set()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Learn where each rank runs."""
        self._hosts = gather_object([platform.node()])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Add up; compare when 50 steps are together."""
        self._own_s += self._trainer.seen.own_s
        self._steps += 1
        if self._steps < _STEPS:
            return
        mine, self._own_s, self._steps = self._own_s / self._steps, 0.0, 0
        # The largest of each rank's figure and everybody else's zeros is that figure.
        own_s = agreed(args, *(mine if rank == args.process_index else 0.0 for rank in range(args.world_size)))
        for rank in slow(own_s):
            if rank not in self._told and state.is_world_process_zero:
                self._tell(state.global_step, rank, own_s)
            self._told.add(rank)

    def _tell(self, step: int, rank: int, own_s: Sequence[float]) -> None:
        usual = median_low(own_s)
        message = (
            f"rank {rank} on {self._hosts[rank]} keeps the others waiting: {own_s[rank]:.3f} s per step for its rows and "
            f"its forward pass, the ranks usually take {usual:.3f} s (steps {step - _STEPS + 1} to {step})"
        )
        events.append(
            self._events, "warning", message=message, step=step, rank=rank, host=self._hosts[rank],
            seconds=round(own_s[rank], 4), usual=round(usual, 4),
        )  # fmt: skip
