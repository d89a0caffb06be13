"""Losses and answers of the model as it stands: each rank measures its share of the rows, and all know the whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import gather_object, send_to_device
from datasets import Dataset
from transformers import PreTrainedTokenizerBase, Trainer

from launcher.plan.types import GeneratePlan
from launcher.worker.generate import answers
from launcher.worker.reality import is_sharded

Batches = Callable[[Sequence[int]], Iterator[int]]


def mean_loss(trainer: Trainer, rows: Dataset, *, batch_size: int, batches: Batches = iter) -> float | None:
    """Mean negative log-likelihood in nats per trained token of the set; None when it is not finite.

    The same for any batch size and number of ranks, but for rounding. Call it on every rank, model in eval mode.
    `batches` goes through the starts of the batches and may abandon the measurement by an error of its own.
    """
    share = _share([len(ids) for ids in rows["input_ids"]], trainer.args.process_index, trainer.args.world_size)
    total, tokens = 0.0, 0
    for start in batches(range(0, len(share.rows), batch_size)):
        batch = _collated(trainer, rows, share, start, batch_size)
        with torch.no_grad(), trainer.compute_loss_context_manager():
            output = trainer.model(**batch, fused_lm_head=True)
        total -= output.log_probs.sum(dtype=torch.float32).item()
        tokens += int(output.label_mask.sum().item())
    parts = gather_object([(total, tokens)])
    return finite(sum(part[0] for part in parts) / max(1, sum(part[1] for part in parts)))


def generate_all(
    trainer: Trainer,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    spec: GeneratePlan,
    *,
    batches: Batches = iter,
    interrupted: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Answers to all prompts, in their order, each rank generating a share. Call it on every rank.

    Args:
        trainer: holds the model, in eval mode.
        tokenizer: its tokenizer.
        prompts: token ids.
        spec: how many prompts at once, and how long an answer may be.
        batches: goes through the starts of the batches; may abandon the measurement by an error of its own.
        interrupted: asked after each token; when true, answers are cut off, and `batches` must abandon them.

    Raises:
        RuntimeError: generation failed on a rank; raised on all of them.
    """
    share = _share([len(prompt) for prompt in prompts], trainer.args.process_index, trainer.args.world_size)
    error: str | None = None
    texts: list[str] = []
    for start in batches(range(0, len(share.rows), spec.batch_size)):
        if error is None:  # a rank that failed goes through the other batches too: all ask one another in between
            try:
                with trainer.compute_loss_context_manager():
                    texts += answers(
                        trainer.model,
                        tokenizer,
                        [prompts[i] for i in share.rows[start : start + spec.batch_size]],
                        max_new_tokens=spec.max_new_tokens,
                        interrupted=interrupted,
                        together=trainer.args.world_size > 1 and any(map(is_sharded, trainer.model.parameters())),
                    )
            except Exception as fault:  # noqa: BLE001 - agreed by all ranks below
                torch.cuda.empty_cache()
                error = f"{type(fault).__name__}: {fault}"
    gathered = gather_object([(error, list(zip(share.rows[: share.counted], texts, strict=False)))])
    errors = [f"{fault} (rank {rank})" for rank, (fault, _) in enumerate(gathered) if fault]
    if errors:
        raise RuntimeError(errors[0])
    return [text for _, text in sorted(pair for _, pairs in gathered for pair in pairs)]


@dataclass(frozen=True)
class _Share:
    """Row numbers for one rank; those behind the first `counted` only keep the ranks in step."""

    rows: list[int]
    counted: int


def _share(lengths: Sequence[int], rank: int, world_size: int) -> _Share:
    """Deal rows to ranks, longest first, so that each batch holds rows of like length and a lack of memory shows early.

    Every rank gets the same number of rows; where they do not divide, the last ones get a row that does not count.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    mine = order[rank::world_size]
    missing = -(-len(order) // world_size) - len(mine)
    return _Share(mine + order[-1:] * missing, len(mine))


def _collated(trainer: Trainer, rows: Dataset, share: _Share, start: int, batch_size: int) -> Any:
    columns = [name for name in ("input_ids", "labels", "seq_lengths") if name in rows.column_names]
    picked = [{name: rows[i][name] for name in columns} for i in share.rows[start : start + batch_size]]
    for row in picked[max(0, share.counted - start) :]:
        row["labels"] = [-100] * len(row["labels"])
    return send_to_device(trainer.data_collator(picked), trainer.args.device)


def finite(value: float) -> float | None:
    """The value; None where it is no number."""
    return value if math.isfinite(value) else None
