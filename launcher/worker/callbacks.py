"""What a run checks and reports while it trains: transformers callbacks, added to the trainer by the task."""

from __future__ import annotations

import time
from array import array
from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments

from launcher.runs import events
from launcher.worker import reality
from launcher.worker.high_water import HighWater
from launcher.worker.job import Job


class StepClock(TrainerCallback):
    """Counts the seconds in which this rank trains. Add it after all other callbacks.

    From the end of a step, when all callbacks have had their turn, to the end of the next: waiting for data, forward,
    backward, optimizer. What callbacks do in between (evaluation) and saving is left out, and so is the loading of data
    before an attempt's first step.
    """

    def __init__(self) -> None:
        self.laps = array("d")
        """Seconds of each step of this attempt."""
        self._counted = 0.0
        self._since: float | None = None

    def on_step_begin(self, *_: object, **__: object) -> None:
        """The first step of an attempt begins; the clock runs before all others."""
        if self._since is None:
            self._since = time.monotonic()

    def stop(self) -> None:
        """A step has ended."""
        if self._since is not None:
            self.laps.append(time.monotonic() - self._since)
            self._counted += self.laps[-1]
            self._since = None

    def on_step_end(self, *_: object, **__: object) -> None:
        """The other callbacks are done with this step."""
        self._since = time.monotonic()

    def on_save(self, *_: object, **__: object) -> None:
        """So is saving."""
        self._since = time.monotonic()

    def taken(self) -> float:
        """The seconds counted since this was asked last."""
        counted, self._counted = self._counted, 0.0
        return counted


class Events(TrainerCallback):
    """Writes `start`, `step` and `trained` events. Rank 0 only."""

    def __init__(self, job: Job, trainer: Any, attempt: int, clock: StepClock, memory: HighWater) -> None:
        self._job = job
        self._trainer = trainer
        self._attempt = attempt
        self._clock = clock
        self._memory = memory
        self._told = 0
        self._tokens_before = 0.0
        self._last: tuple[float, float] | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Say what really runs."""
        self._tokens_before = _tokens_until(self._job, state.global_step)
        self._last = (time.monotonic(), 0.0)
        self._told = state.global_step
        events.append(
            self._job.run_dir.events,
            "start",
            device=str(args.device),
            **reality.facts(self._trainer),
            step=state.global_step,
            max_steps=state.max_steps,
            steps_per_epoch=self._job.data_facts()["steps_per_epoch"],
            attempt=self._attempt,
        )

    def on_save(self, _: TrainingArguments, state: TrainerState, *__: Any, **___: Any) -> None:
        """Steps that are saved but not logged count too."""
        self._tell(state)

    def on_train_end(self, _: TrainingArguments, state: TrainerState, *__: Any, **___: Any) -> None:
        """So do those after the last log."""
        self._tell(state)

    def _tell(self, state: TrainerState) -> None:
        if state.global_step > self._told:
            self._told = state.global_step
            seconds = round(self._clock.taken(), 4)
            events.append(
                self._job.run_dir.events, "trained", attempt=self._attempt, step=state.global_step, seconds=seconds
            )

    def on_log(
        self, _: TrainingArguments, state: TrainerState, *__: Any, logs: dict[str, Any] | None = None, **___: Any
    ) -> None:
        """One event per logged training step."""
        if not logs or "loss" not in logs:
            return
        now, tokens = time.monotonic(), float(logs.get("num_tokens", 0))
        before, counted = self._last or (now, tokens)
        self._last = (now, tokens)
        self._told = state.global_step
        events.append(
            self._job.run_dir.events,
            "step",
            attempt=self._attempt,
            step=state.global_step,
            epoch=logs.get("epoch"),
            loss=logs["loss"],
            learning_rate=logs.get("learning_rate"),
            grad_norm=logs.get("grad_norm"),
            tokens_per_s=round((tokens - counted) / (now - before), 1) if now > before else None,
            memory_gib=round(self._memory.highest_gib(), 3),
            tokens=int(self._tokens_before + tokens),
            seconds=round(self._clock.taken(), 4),
        )


def _tokens_until(job: Job, step: int) -> float:
    """Tokens trained by the step that a run continues from; TRL starts to count anew."""
    seen = (event for event in events.read(job.run_dir.events) if event["event"] == "step" and event["step"] <= step)
    return max(((event["step"], event.get("tokens") or 0) for event in seen), default=(0, 0))[1]
