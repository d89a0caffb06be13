"""What an attempt was measured to take: seconds and tokens of its steps, and the most memory of every rank."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerState, TrainingArguments

from launcher.runs import events
from launcher.runs.machine import processor
from launcher.runs.measures import percentile
from launcher.worker import high_water
from launcher.worker.job import Job
from launcher.worker.spill import Spill

if TYPE_CHECKING:
    from launcher.worker.callbacks import StepClock
    from launcher.worker.trainer import Trainer

FIRST = 2
"""Steps that are left out of an attempt's times: in them memory is taken, kernels are chosen and compiled."""
_MOST_RANKS = 64
_BETWEEN_STEPS_S = 0.01
"""More than that between two steps is an evaluation or a save, whose memory is no step's."""


class Measured(TrainerCallback):
    """Sums up an attempt when its training ends: the event `measured`. On all ranks; add it before what takes time at the end of a step."""

    def __init__(self, job: Job, trainer: Trainer, attempt: int, clock: StepClock) -> None:
        self.memory = high_water.of(trainer.args.device)
        self._job, self._trainer, self._attempt, self._clock = job, trainer, attempt, clock
        self._spill = Spill() if trainer.args.device.type == "cuda" and _under_wsl() else None
        self._ended: float | None = None
        self._steps = self._computed = self._largest = self._tokens_before = 0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """What came before the first step, or between two, is no part of one."""
        if self._ended is None or time.monotonic() - self._ended > _BETWEEN_STEPS_S:
            self.memory.pass_over()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """A step is made; what follows until the next is not training."""
        self._clock.stop()
        self.memory.take()
        self._steps += 1
        self._largest = max(self._largest, self._trainer.seen.largest)
        if self._steps == FIRST:
            self._tokens_before = _tokens(self._trainer)
        elif self._steps > FIRST:
            self._computed += self._trainer.seen.tokens
        if self._spill:
            self._judge(self._spill, args, state)
        self._ended = time.monotonic()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Every rank says what it has held, rank 0 writes it down."""
        if self._steps == 0:
            return
        mine = {"rank": args.process_index, **self.memory.facts(), "largest_tokens": self._largest}
        told = gather_object([(mine, self._computed)])
        if args.process_index != 0:
            return
        laps, tokens = self._clock.laps[FIRST:], _tokens(self._trainer) - self._tokens_before
        computed = sum(each for _, each in told)
        events.append(
            self._job.run_dir.events,
            "measured",
            attempt=self._attempt,
            step=state.global_step,
            device=_name(args.device),
            steps=len(laps),
            step_s=_rounded(median(laps) if laps else None),
            step_p90_s=_rounded(percentile(laps, 90)),
            step_p99_s=_rounded(percentile(laps, 99)),
            tokens_per_s=_rounded(tokens / sum(laps) if laps else None),
            computed_tokens=round(computed / len(laps)) if laps else None,
            computed_tokens_per_s=_rounded(computed / sum(laps) if laps else None),
            ranks=[facts for facts, _ in told][:_MOST_RANKS],
        )

    def _judge(self, spill: Spill, args: TrainingArguments, state: TrainerState) -> None:
        """Windows moves memory of a GPU that is full into host memory and tells nobody."""
        free, total = torch.cuda.mem_get_info(args.device)
        reserved = torch.cuda.memory_reserved(args.device)
        found = spill.add(self._clock.laps[-1], reserved=reserved, free=free, total=total)
        if found:
            events.append(
                self._job.run_dir.events,
                "warning",
                message=found.sentence(),
                step=state.global_step,
                rank=args.process_index,
                spill={"seconds": round(found.seconds, 4), "usual": found.usual, "reserved_bytes": found.reserved},
            )


def _tokens(trainer: Trainer) -> int:
    """Tokens of this attempt over all ranks, without padding, as TRL counts them for its logs."""
    return int(trainer._total_train_tokens)  # noqa: SLF001 - TRL has no other name for it


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def _under_wsl() -> bool:
    return "microsoft" in Path("/proc/version").read_text(encoding="utf-8").lower()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
