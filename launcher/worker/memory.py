"""Running out of memory in training: which batch it was, so that a person sees whether its rows or its size are to blame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from launcher.worker import batches
from launcher.worker.batches import Row
from launcher.worker.faults import RankFailed, line, out_of_memory
from launcher.worker.job import Job

if TYPE_CHECKING:
    from launcher.worker.trainer import Trainer

_ROWS_SHOWN = 4
_EXAMPLES_SHOWN = 3


@contextmanager
def batch_named(job: Job, trainer: Trainer, rank: int) -> Iterator[None]:
    """While the block trains: an error that says memory did not suffice is told with its batch.

    Raises:
        RankFailed: out of memory; the first line says how much was asked for, the rest describes the batch.
    """
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        with suppress(Exception):
            trainer.store.settle()  # a checkpoint from before may still be on its way
        raise RankFailed("out_of_memory", "\n".join([line(error), *_batch(job, trainer, rank)])) from error


def _batch(job: Job, trainer: Trainer, rank: int) -> list[str]:
    """The micro-batch of this rank that was being trained, in lines; empty where none was, or it cannot be told."""
    step, micro = trainer.state.global_step + 1, len(trainer.seen.losses)
    try:
        taken = batches.numbers(trainer, step, rank)
        if micro >= len(taken):
            return [f"batch: none; the weights were being updated, or measured, at step {step}"]
        rows = batches.Origins(job).rows(taken[micro])
    except Exception:  # noqa: BLE001 - whatever it is, memory included, the error itself must be told
        return []
    place = f"step {step}, pass {micro + 1} of {len(taken)}"
    return [f"batch: {place}: {_size(rows, packed=job.plan.data.packing)}", f"rows:  {_listed(rows)}"]


def _size(rows: Sequence[Row], *, packed: bool) -> str:
    longest, tokens = max(row.tokens for row in rows), sum(row.tokens for row in rows)
    padded = "" if packed else f" ({len(rows) * longest} with padding)"
    return f"{len(rows)} row{'s' if len(rows) > 1 else ''}, {tokens} tokens{padded}, {longest} of them in the longest"


def _listed(rows: Sequence[Row]) -> str:
    """The longest rows, each with where it comes from."""
    shown = sorted(rows, key=lambda row: (-row.tokens, row.number))[:_ROWS_SHOWN]
    texts = [f"{_origin(row)}: {row.tokens} tokens" for row in shown]
    return "; ".join([*texts, *([f"{len(rows) - len(shown)} shorter ones"] if len(rows) > len(shown) else [])])


def _origin(row: Row) -> str:
    more = len(row.examples) - _EXAMPLES_SHOWN
    return " + ".join([*row.examples[:_EXAMPLES_SHOWN], *([f"{more} more"] if more > 0 else [])])
