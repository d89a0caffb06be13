"""The one place where a run differs from a plain SFTTrainer: where checkpoints go, and what a loaded adapter weighs."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerControl, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from trl import SFTTrainer

from launcher.worker.faults import disk_full
from launcher.worker.store import CheckpointStore

_SETTINGS = ("initial_lr", "weight_decay", "betas", "eps", "momentum")
"""Of an optimizer's groups, what a plan sets; the rest is state, which for some optimizers stands beside it."""


class Trainer(SFTTrainer):
    """TRL's SFTTrainer whose checkpoints are committed. Loss, step, sampler and collator are TRL's."""

    def __init__(self, *args: Any, store: CheckpointStore, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.store = store

    def _get_output_dir(self, trial: Any) -> str:  # noqa: ARG002 - transformers' signature
        return str(self.store.staging)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save as transformers does, but aside; rename when every rank has written its part."""
        step = int(self.state.global_step)
        main = self.is_world_process_zero()
        if main:
            self.store.begin(step)
        try:
            super()._save_checkpoint(model, trial)
            _barrier()
            if main:
                self.store.commit(step)
        except BaseException as error:
            full = disk_full(error, self.store.staging)
            if main:
                self.store.abandon()
            if full:  # known only until the space is given back
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.store.staging)) from error
            raise
        _barrier()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load weights and give trained ones the type they had: peft makes an adapter float32 where TRL had made it bfloat16."""
        types = {name: weight.dtype for name, weight in self.model.named_parameters() if weight.requires_grad}
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for name, weight in self.model.named_parameters():
            if name in types:
                weight.data = weight.data.to(types[name])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load their states. Those carry the settings they were saved under; the plan's hold, should it have changed since."""
        planned = [{name: group[name] for name in _SETTINGS if name in group} for group in self.optimizer.param_groups]
        super()._load_optimizer_and_scheduler(checkpoint)
        for group, settings in zip(self.optimizer.param_groups, planned, strict=True):
            group.update(settings)
        if isinstance(self.lr_scheduler, LambdaLR):
            _follow_anew(self.lr_scheduler, [settings["initial_lr"] for settings in planned])

    def load_last(self, checkpoint: str) -> None:
        """Stand where training to `checkpoint` stood at its end, without a further step: what remains is to measure and save."""
        self._load_from_checkpoint(checkpoint)
        self.state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
        self.callback_handler.on_train_begin(self.args, self.state, TrainerControl())
        self.callback_handler.on_train_end(self.args, self.state, TrainerControl())


def _follow_anew(schedule: LambdaLR, base_rates: list[float]) -> None:
    """Set the rates of the next step as if the schedule had followed these base rates, and its own curve, from the start."""
    schedule.base_lrs = list(base_rates)
    rates = [base * factor(schedule.last_epoch) for base, factor in zip(base_rates, schedule.lr_lambdas, strict=True)]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = list(rates)  # noqa: SLF001 - what it answers until it steps


def _barrier() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
