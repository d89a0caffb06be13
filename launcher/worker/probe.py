"""The try before a training (`launch.probe`): the rows that need most, and no result."""

from __future__ import annotations

import pyarrow.compute as pc
from datasets import Dataset

from launcher.worker.job import Job


def is_one(job: Job) -> bool:
    """What runs is a try, and not the training."""
    return job.plan.restart.probe == "this"


def rows(job: Job, prepared: Dataset) -> Dataset:
    """All rows; in a try, the longest ones, as many as a step takes, once for each step."""
    if not is_one(job):
        return prepared
    lengths = pc.list_value_length(prepared.data.column("input_ids")).to_pylist()
    ranked = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    wanted = job.plan.batch.global_size
    step = [ranked[place % len(ranked)] for place in range(wanted)]
    return prepared.select(step * int(job.data_facts()["max_steps"]))
