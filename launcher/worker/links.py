"""Whether what ranks send to one another arrives: sums whose result is known, before a model is loaded."""

from __future__ import annotations

import platform
import time

import torch
import torch.distributed as dist
from transformers import TrainingArguments

from launcher.runs import events
from launcher.worker.faults import RankFailed
from launcher.worker.job import Job

_FEW, _MANY = 1024, 2**20
"""Numbers of 4 bytes: the first sum also makes the connections, the second is timed."""


def check(job: Job, args: TrainingArguments, rank: int) -> None:
    """Sum known numbers over all ranks, twice, and note how fast the second sum was. Every rank must call it.

    It draws no random number, so it changes nothing in what follows.

    Raises:
        RankFailed: a sum is wrong on this rank.
    """
    if args.world_size == 1:
        return
    _sum(_FEW, args, rank)
    dist.barrier()
    seconds = _sum(_MANY, args, rank)
    if rank == 0:
        sent = 4 * _MANY * 2 * (args.world_size - 1) / args.world_size  # by each rank, in a ring
        events.append(
            job.run_dir.events,
            "links",
            backend=dist.get_backend(),
            ranks=args.world_size,
            bytes=4 * _MANY,
            seconds=round(seconds, 6),
            gb_per_s=round(sent / seconds / 1e9, 3),
        )


def _sum(numbers: int, args: TrainingArguments, rank: int) -> float:
    """Rank r gives (r + 1)·i at place i, so that place i of the sum over R ranks is R(R + 1)/2·i, modulo 2^32."""
    places = torch.arange(numbers, dtype=torch.int32, device=args.device)
    found = places * (rank + 1)
    began = time.monotonic()
    dist.all_reduce(found)
    _wait_for(found)
    seconds = time.monotonic() - began
    wrong = int((found != places * (args.world_size * (args.world_size + 1) // 2)).sum())
    if wrong:
        raise RankFailed(
            "infrastructure",
            f"rank {rank} on {platform.node()} got {wrong:,} wrong numbers in a sum of {numbers:,} over all ranks",
            hint="a link or a GPU is damaged: leave that machine out (`exclude` in the cluster's profile)",
        )
    return seconds


def _wait_for(found: torch.Tensor) -> None:
    if found.device.type == "cuda":
        torch.cuda.synchronize(found.device)
