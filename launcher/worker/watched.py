"""TRL's trainer, telling where it stands and remembering what the numbers of a step were. It computes nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from trl import SFTTrainer

from launcher.worker.beats import beat


@dataclass
class Seen:
    """What this rank saw of the step that is being made."""

    losses: list[torch.Tensor] = field(default_factory=list)
    """Loss of each micro-batch, on this rank, as the trainer adds them up."""
    grad_norm: torch.Tensor | float | None = None
    """Norm of the whole gradient before clipping."""
    learning_rate: float = 0.0
    own_s: float = 0.0
    """Seconds that this rank spent on its own: fetching rows and, on the CPU, in the forward pass."""
    tokens: int = 0
    """Tokens that this rank computes, padding included."""
    largest: int = 0
    """Of its largest micro-batch."""


class WatchedTrainer(SFTTrainer):
    """An SFTTrainer whose every phase is a beat; see `launcher.worker.beats`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen = Seen()
        self._since = time.perf_counter()
        if self.args.device.type == "cpu":  # elsewhere the call returns before the work is done
            self.model.register_forward_pre_hook(self._note_start)
            self.model.register_forward_hook(self._note_own)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """All micro-batches of a step are fetched before the first is used."""
        self.seen = Seen()
        beat("data", step=self.state.global_step + 1)
        self._note_start()
        found = super().get_batch_samples(map(self._note_fetched, epoch_iterator), num_batches, device)
        self._note_start()  # with the exchange of token counts before it
        return found

    def _note_fetched(self, batch: Any) -> Any:
        self._note_own()
        self._note_start()
        beat("data")
        return batch

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Forward and backward pass of one micro-batch."""
        beat("forward", micro=len(self.seen.losses))
        tokens = inputs["input_ids"].numel()
        self.seen.tokens, self.seen.largest = self.seen.tokens + tokens, max(self.seen.largest, tokens)
        loss: torch.Tensor = super().training_step(model, inputs, *args, **kwargs)
        self.seen.losses.append(loss)
        self._note_start()
        return loss

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """The forward pass; what follows in the step is the backward one. DDP and TRL's metrics wait for all ranks in it."""
        self._note_own()
        found = super().compute_loss(*args, **kwargs)
        beat("backward")
        return found

    def _note_start(self, *_: Any) -> None:
        """From here on this rank waits for nobody."""
        self._since = time.perf_counter()

    def _note_own(self, *_: Any) -> None:
        """It was on its own until now."""
        if self.model.training:  # what evaluation takes is no part of a step
            self.seen.own_s += time.perf_counter() - self._since

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        beat("update")
        self.seen.grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.seen.learning_rate = float(self._get_learning_rate())
        return self.seen.grad_norm
