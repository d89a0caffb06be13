"""The one place where a run differs from a plain SFTTrainer: where checkpoints go, and what a loaded adapter weighs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.distributed.checkpoint.api import CheckpointException
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerControl, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from launcher.worker import boundary, random_state
from launcher.worker.beats import beat
from launcher.worker.space import Trouble, trouble
from launcher.worker.store import CheckpointStore
from launcher.worker.watched import WatchedTrainer

_SETTINGS = ("initial_lr", "weight_decay", "betas", "eps", "momentum")
"""Of an optimizer's groups, what a plan sets; the rest is state, which for some optimizers stands beside it."""


class Trainer(WatchedTrainer):
    """TRL's SFTTrainer whose checkpoints are committed. Loss, step, sampler and collator are TRL's."""

    def __init__(self, *args: Any, store: CheckpointStore, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.store = store
        self._planned: list[tuple[dict[str, Any], bool]] = []

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Make it, and remember what was planned for it: a checkpoint brings its own."""
        made = super().create_optimizer(*args, **kwargs)
        self._planned.clear()
        for group in made.param_groups:
            settings = {"initial_lr": group["lr"]} | {name: group[name] for name in _SETTINGS if name in group}
            self._planned.append((settings, not group["params"]))
        return made

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, but not into a checkpoint that holds it in parts already."""
        if not (_internal_call and (self.is_fsdp_enabled or self.is_deepspeed_enabled)):
            super().save_model(output_dir, _internal_call)

    def _get_output_dir(self, trial: Any) -> str:  # noqa: ARG002 - transformers' signature
        return str(self.store.staging)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save as transformers does, but aside; the store makes it count. Storage that refuses does not end training."""
        beat("save")
        step = int(self.state.global_step)
        found = self.store.begin(step)
        if self._agreed(found):
            self.store.abandon(step, found)
            return
        try:
            super()._save_checkpoint(model, trial)
        except (Exception, CheckpointException) as error:
            found = trouble(_cause(error), self.store.staging)
            if found is None:
                raise
        if self._agreed(found):
            self.store.abandon(step, found)
        else:
            self.store.commit(step)

    def _agreed(self, found: Trouble | None) -> bool:
        """Some rank cannot save."""
        return boundary.agreed(self.args, float(found is not None))[0] > 0

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load weights and give trained ones the type they had: peft makes an adapter float32 where TRL had made it bfloat16."""
        types = {name: weight.dtype for name, weight in self.model.named_parameters() if weight.requires_grad}
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for name, weight in self.model.named_parameters():
            if name in types and weight.dtype != types[name]:
                weight.data = weight.data.to(types[name])

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Load this rank's random state. Saved by another number of ranks, it may not be there; transformers then goes on with any."""
        super()._load_rng_state(checkpoint)
        rank = self.args.process_index
        name = f"rng_state_{rank}.pth" if self.args.world_size > 1 else "rng_state.pth"
        if checkpoint is not None and not (Path(checkpoint) / name).is_file():
            random_state.draw_apart(self.args.seed, self.state.global_step, rank)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load their states. Those carry the settings they were saved under; the plan's hold, should it have changed since."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        groups = self.optimizer.param_groups
        # DeepSpeed leaves out groups without weights, such as an adapter's weights without decay.
        planned = [settings for settings, empty in self._planned if not empty or len(groups) == len(self._planned)]
        for group, settings in zip(groups, planned, strict=True):
            group.update(settings)
        if isinstance(self.lr_scheduler, LambdaLR):
            _follow_anew(self.lr_scheduler, [settings["initial_lr"] for settings in planned])

    def load_last(self, checkpoint: str) -> None:
        """Stand where training to `checkpoint` stood at its end, without a further step: what remains is to measure and save."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:  # what is shared out is loaded into what would train it
            self._prepare_for_training(self.args.max_steps, self.get_train_dataloader(), checkpoint)
        else:
            self._load_from_checkpoint(checkpoint)
        self.state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
        self.callback_handler.on_train_begin(self.args, self.state, TrainerControl())
        self.callback_handler.on_train_end(self.args, self.state, TrainerControl())


def _cause(error: BaseException) -> Exception:
    """What stopped a save; the parts of a sharded one are written together, and it lists what stopped each rank."""
    if not isinstance(error, CheckpointException):
        return error if isinstance(error, Exception) else RuntimeError(str(error))
    failures = [failure[0] if isinstance(failure, tuple) else failure for failure in error.failures.values()]
    return next((each for each in failures if isinstance(each, Exception)), RuntimeError(str(error)))


def _follow_anew(schedule: LambdaLR, base_rates: list[float]) -> None:
    """Set the rates of the next step as if the schedule had followed these base rates, and its own curve, from the start."""
    schedule.base_lrs = list(base_rates)
    rates = [base * factor(schedule.last_epoch) for base, factor in zip(base_rates, schedule.lr_lambdas, strict=True)]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = list(rates)  # noqa: SLF001 - what it answers until it steps
