"""Ranks with a fault, or with a ledger, run by the tests of the watchdog in forked processes."""

from __future__ import annotations

import ctypes
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def rank(run_dir: str, failing: int, step: int, fault: str) -> None:
    """A training rank; rank `failing` has `fault` from the optimizer step `step` on, counted from 1."""
    from launcher.worker import main

    if int(os.environ["RANK"]) == failing:
        _FAULTS[fault](step)
    raise SystemExit(main.main(run_dir, os.getppid()))


def _in_step(step: int, act: Callable[[Any], Any], *, after: bool = False) -> None:
    """Call `act(trainer)` in the training step of that optimizer step, before or after its forward and backward pass."""
    from trl import SFTTrainer

    original = SFTTrainer.training_step

    def patched(self: Any, *args: Any, **kwargs: Any) -> Any:
        due = self.state.global_step + 1 == step
        if due and not after:
            act(self)
        loss = original(self, *args, **kwargs)
        if due and after:
            act(self)
        return loss

    SFTTrainer.training_step = patched


def _first_weight(trainer: Any) -> Any:
    return next(weight for weight in trainer.model.parameters() if weight.requires_grad)


def _held_gil(step: int) -> None:
    _in_step(step, lambda _: ctypes.PyDLL(None).sleep(600))


def _pause(step: int) -> None:
    _in_step(step, lambda _: time.sleep(3.5))


def _slow_fetch(step: int, seconds: float = 600.0) -> None:
    """The data loader, here or in its own process, sleeps when it fetches the batch of that step."""
    from datasets import Dataset

    original, fetched = Dataset.__getitems__, [0]

    def patched(self: Any, keys: Any) -> Any:
        fetched[0] += 1
        if fetched[0] == step:
            time.sleep(seconds)
        return original(self, keys)

    Dataset.__getitems__ = patched


def _slow_micro_batches(step: int) -> None:
    """Each micro-batch of that step takes two seconds: the step is slow, and goes on."""
    _in_step(step, lambda _: time.sleep(2))


def _nan_weight(step: int) -> None:
    _in_step(step, lambda trainer: _first_weight(trainer).data.view(-1)[:].fill_(math.nan))


def _nan_gradient(step: int) -> None:
    _in_step(step, lambda trainer: _first_weight(trainer).grad.view(-1)[0].fill_(math.nan), after=True)


def _nan_update(step: int) -> None:
    """The update of that step writes a NaN into a weight, which no loss shows yet."""
    import torch

    original, made = torch.optim.AdamW.step, [0]

    def patched(self: Any, *args: Any, **kwargs: Any) -> Any:
        done = original(self, *args, **kwargs)
        made[0] += 1
        if made[0] == step:
            self.param_groups[0]["params"][0].data.view(-1)[0].fill_(math.nan)
        return done

    torch.optim.AdamW.step = patched


def _scaled_loss(step: int, factor: float, micro: int | None = None) -> None:
    from trl import SFTTrainer

    original, calls = SFTTrainer.compute_loss, [0]

    def patched(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, *args, **kwargs)
        accumulation = self.args.gradient_accumulation_steps
        update, at = divmod(calls[0], accumulation)
        calls[0] += 1
        return loss * factor if update + 1 == step and micro in (None, at) else loss

    SFTTrainer.compute_loss = patched


def _slow_steps(_: int) -> None:
    from trl import SFTTrainer

    original = SFTTrainer.training_step

    def patched(self: Any, *args: Any, **kwargs: Any) -> Any:
        time.sleep(0.12)
        return original(self, *args, **kwargs)

    SFTTrainer.training_step = patched


_FAULTS: dict[str, Callable[[int], None]] = {
    "held_gil": _held_gil,
    "pause": _pause,
    "slow_fetch": _slow_fetch,
    "slow_micro_batches": _slow_micro_batches,
    "nan_weight": _nan_weight,
    "nan_gradient": _nan_gradient,
    "nan_update": _nan_update,
    "inf_loss": lambda step: _scaled_loss(step, math.inf, micro=1),
    "spike": lambda step: _scaled_loss(step, 20.0),
    "slow_steps": _slow_steps,
}


def rank_with_ledger(run_dir: str, attempt: int) -> None:
    """A training rank that notes each batch it fetches, and at the end what the trainer's sampler gives for each step.

    Writes `ledger-ATTEMPT-RANK.json`: `fetched`, and `told`: rank → step → micro-batches.
    """
    from datasets import Dataset
    from transformers import Trainer

    from launcher.worker import batches, job, main

    original, train, fetched = Dataset.__getitems__, Trainer.train, []

    def noting(self: Any, keys: Any) -> Any:
        fetched.append(list(keys))
        return original(self, keys)

    def trained(self: Any, *args: Any, **kwargs: Any) -> Any:
        done = train(self, *args, **kwargs)
        ranks, steps = range(self.args.world_size), range(1, self.state.global_step + 1)
        told = {rank_: {step: batches.numbers(self, step, rank_) for step in steps} for rank_ in ranks}
        rows = batches.Origins(job.load(Path(run_dir))).rows(range(len(self.train_dataset)))
        ledger = {"fetched": fetched, "told": told, "rows": [str(row) for row in rows]}
        Path(f"{run_dir}/ledger-{attempt}-{self.args.process_index}.json").write_text(json.dumps(ledger))
        return done

    Dataset.__getitems__, Trainer.train = noting, trained
    raise SystemExit(main.main(run_dir, os.getppid()))
