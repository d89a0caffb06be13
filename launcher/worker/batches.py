"""Which prepared rows an optimizer step took, and where each of them comes from.

Worked out after the fact from the trainer's own sampler, so that a step pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from accelerate.data_loader import BatchSamplerShard, SeedableRandomSampler
from torch.utils.data import BatchSampler
from transformers import Trainer

from launcher.runs import cache
from launcher.worker.data.look import PreparedSet
from launcher.worker.job import Job

FILLER = "filler"


@dataclass(frozen=True)
class Row:
    """One prepared row of a batch."""

    number: int
    """Its place in `RUN/data/train`."""
    tokens: int
    examples: tuple[str, ...]
    """What it is made of, in order: `LABEL (FILE:LINE)`; the label alone where the tokenised source is gone."""

    def __str__(self) -> str:
        return " + ".join(self.examples)


def numbers(trainer: Trainer, step: int, rank: int) -> tuple[tuple[int, ...], ...]:
    """Row numbers of each micro-batch that `rank` took for one optimizer step.

    Args:
        trainer: while it trains, or after.
        step: the optimizer step, from 1.
        rank: any rank, this one or another.

    Raises:
        LookupError: the trainer's sampler is one whose order cannot be known afterwards.
    """
    loader = trainer.callback_handler.train_dataloader
    each, accumulation = len(loader), trainer.args.gradient_accumulation_steps
    epoch, update = divmod(step - 1, max(1, -(-each // accumulation)))
    first = update * accumulation
    batches = islice(_batches(loader, epoch, rank), first, min(first + accumulation, each))
    return tuple(tuple(int(number) for number in batch) for batch in batches)


def _batches(loader: Any, epoch: int, rank: int) -> Iterator[list[int]]:
    """The batches of one rank in one epoch, from samplers made anew: those of the trainer stay as they stand."""
    shard = loader.batch_sampler
    dealt = isinstance(shard, BatchSamplerShard)
    batched = shard.batch_sampler if dealt else shard
    sampler = batched.sampler
    if not isinstance(sampler, SeedableRandomSampler):
        raise LookupError(f"the order of a {type(sampler).__name__} is not known afterwards")  # noqa: TRY004 - no wrong argument
    again = SeedableRandomSampler(range(sampler.num_samples), data_seed=sampler.initial_seed)
    again.set_epoch(epoch)
    batches = BatchSampler(again, batched.batch_size, batched.drop_last)
    if dealt:
        sharing = (shard.num_processes, rank, shard.split_batches, shard.even_batches)
        batches = BatchSamplerShard(batches, *sharing)
    return iter(batches)


class Origins:
    """The prepared training rows of a run, looked up by number."""

    def __init__(self, job: Job) -> None:
        facts = job.data_facts()["sets"]["train"]
        self._rows = PreparedSet(
            job.run_dir.prepared("train"), int(facts["rows"]), cache.of_run(job.run_dir).root / "sources"
        )

    def rows(self, wanted: Iterable[int]) -> list[Row]:
        """Rows by their numbers, in the order asked for. A filler only completes the last batch of an epoch."""
        return [self._row(number) for number in wanted]

    def _row(self, number: int) -> Row:
        tokens = len(self._rows.table["input_ids"][number])
        if number >= self._rows.rows:
            return Row(number, tokens, (FILLER,))
        return Row(number, tokens, tuple(_text(*origin) for origin in self._rows.origins(number)) or (f"row {number}",))


def _text(label: str, place: str | None) -> str:
    return label if place is None else f"{label} ({place})"
