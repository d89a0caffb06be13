"""Stop all ranks when a loss, a gradient or a weight is not a finite number, before anything of that step is saved."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate.utils import gather_object

from launcher.errors import LauncherError
from launcher.runs import checkpoints, events
from launcher.worker import batches
from launcher.worker.faults import RankFailed
from launcher.worker.job import Job

if TYPE_CHECKING:
    from launcher.worker.trainer import Trainer

_ROWS_SHOWN = 8


class Finite:
    """What one rank knows of the numbers of its step. `fail` is a collective operation, the rest is local."""

    def __init__(self, job: Job, trainer: Trainer) -> None:
        self._job = job
        self._trainer = trainer

    def step_is_broken(self) -> bool:
        """A loss of this rank, or the norm of the gradient, is not finite."""
        return bool(self._broken_losses()) or self._gradient_is_broken()

    def weights_are_broken(self) -> bool:
        """A trained weight is not finite; one that was just updated shows in no loss yet. Reads all of them: for saves."""
        weights = (weight for weight in self._trainer.model.parameters() if weight.requires_grad)
        return not all(bool(torch.isfinite(_local(weight.detach())).all()) for weight in weights)

    def fail(self, step: int) -> RankFailed:
        """The error that ends all ranks, with the rows of the batch, which an event lists. Every rank must call it."""
        mine = {"losses": self._broken_losses(), "gradient": self._gradient_is_broken()}
        found: list[dict[str, Any]] = gather_object([mine])
        what = "loss" if any(each["losses"] for each in found) else "weights"
        if what == "weights" and any(each["gradient"] for each in found):
            what = "gradient"
        ranks = [rank for rank, each in enumerate(found) if each["losses"] or (what == "gradient" and each["gradient"])]
        ranks = ranks or list(range(len(found)))
        micros = {rank: list(found[rank]["losses"]) if what == "loss" else None for rank in ranks}
        rows = {rank: self._rows(step, rank, micros[rank]) for rank in ranks}
        values = [found[rank]["losses"][micro] for rank in ranks for micro in found[rank]["losses"]]
        rate = self._trainer.seen.learning_rate
        self._trainer.store.settle()  # a checkpoint from before may still be on its way
        if self._trainer.is_world_process_zero():
            told = {str(rank): [str(row) for row in each] for rank, each in rows.items()}
            events.append(
                self._job.run_dir.events, "not_finite", step=step, what=what, ranks=ranks, learning_rate=rate, rows=told
            )
        return RankFailed("not_finite", _message(step, what, ranks, values, rate, rows), hint=self._hint())

    def _broken_losses(self) -> dict[int, str]:
        """Micro-batch → its loss, of those whose loss is not finite."""
        losses = [float(loss) for loss in self._trainer.seen.losses]
        return {micro: str(loss) for micro, loss in enumerate(losses) if not math.isfinite(loss)}

    def _gradient_is_broken(self) -> bool:
        if self._trainer.accelerator.scaler is not None:
            return False  # fp16 scales the loss, finds the scale by overflowing now and then, and skips that step
        norm = self._trainer.seen.grad_norm
        return norm is not None and not math.isfinite(float(norm))

    def _rows(self, step: int, rank: int, micros: list[int] | None) -> list[batches.Row]:
        """Rows of the broken micro-batches, or of all of the step where it is not known which."""
        try:
            taken = batches.numbers(self._trainer, step, rank)
            chosen = taken if micros is None else [taken[micro] for micro in micros]
            return batches.Origins(self._job).rows(number for batch in chosen for number in batch)
        except (LookupError, LauncherError, OSError):
            return []

    def _hint(self) -> str:
        newest = checkpoints.newest(self._job.run_dir, contents=False).checkpoint
        kept = f"{newest.path.name} is from before; " if newest else ""
        return f"{kept}look at these rows, or lower `training.learning_rate` (or set `training.max_grad_norm: 1.0`)"


def _local(weight: torch.Tensor) -> torch.Tensor:
    """This rank's part of a sharded weight."""
    if hasattr(weight, "ds_tensor"):
        return cast(torch.Tensor, weight.ds_tensor)
    return weight.to_local() if hasattr(weight, "to_local") else weight


def _message(
    step: int, what: str, ranks: list[int], values: list[str], rate: float, rows: dict[int, list[batches.Row]]
) -> str:
    value = f" is {values[0]}" if values else " is not finite" if what == "gradient" else " are not finite"
    which = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"
    claim = f"the {what}{value} at step {step} on {which} (learning rate {rate:g})"
    all_rows = [str(row) for each in rows.values() for row in each]
    if not all_rows:
        return claim
    more = f" and {len(all_rows) - _ROWS_SHOWN} more (in events.jsonl)" if len(all_rows) > _ROWS_SHOWN else ""
    return f"{claim}\nrows:  {', '.join(all_rows[:_ROWS_SHOWN])}{more}"
