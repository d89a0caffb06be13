"""The process that measures: rows in order, each written as soon as it is known, until it fails or the time is up."""

from __future__ import annotations

import os
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.gpu import machine
from benchmarks.gpu.record import START_AGAIN, Record, Row, Skipped
from benchmarks.gpu.setup import Scale
from benchmarks.gpu.suites import rows

_LEFT_BEHIND_GIB = 0.1


def carry_out(names: tuple[str, ...], scale: Scale, record: Record, deadline: float) -> int:
    """Measure the rows that the record lacks.

    Args:
        names: suites.
        scale: device and length.
        record: where the rows go.
        deadline: seconds since the epoch.

    Returns:
        0 when all rows are written, else START_AGAIN.
    """
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRL_EXPERIMENTAL_SILENCE="1")
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    if scale.smoke:
        os.environ["DS_ACCELERATOR"] = "cpu"
    else:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # with more, the Trainer would spread over them
        _forget_ranks()
    every = rows(names, scale, record)
    record.plan(every)
    for row in every[len(record.rows()) :]:
        left, needed = deadline - time.time(), _needed(record, row.suite, scale)
        if left < needed:
            record.add(
                row,
                smoke=scale.smoke,
                skipped=f"{max(left, 0):.0f} s left before the deadline, it may take {needed:.0f} s",
            )
            continue
        failed = _one(row, scale, record)
        if not scale.smoke:
            machine.release()
            if failed or machine.held_gib() > _LEFT_BEHIND_GIB:
                return START_AGAIN
    return 0


def _one(row: Row, scale: Scale, record: Record) -> bool:
    """Whether it failed."""
    started = time.time()
    try:
        outcome: dict[str, Any] = {"result": row.run()}
    except Skipped as why:
        outcome = {"skipped": str(why)}
    except Exception as fault:  # noqa: BLE001 - an error is a finding
        outcome = {"error": _error(fault)}
    if "result" in outcome and row.baseline:
        outcome["compared_with"] = row.baseline
        outcome["speed_ratio"] = _ratio(record, row, outcome["result"])
    record.add(row, smoke=scale.smoke, seconds=time.time() - started, **outcome)
    return "error" in outcome


def _error(fault: Exception) -> dict[str, Any]:
    import torch

    memory = isinstance(fault, torch.OutOfMemoryError)
    place = [
        f"{each.name} ({Path(each.filename).name}:{each.lineno})" for each in traceback.extract_tb(fault.__traceback__)
    ]
    return {
        "kind": "out of memory" if memory else type(fault).__name__,
        "message": str(fault)[:2000],
        "where": place[-3:],
        **(machine.peaks() if memory else {}),
    }


def _ratio(record: Record, row: Row, result: dict[str, Any]) -> float | None:
    """Real tokens per second over the baseline's; None where either was not measured."""
    base = record.result(row.suite, row.baseline or "") or {}
    ours, theirs = result.get("real_tokens_per_s"), base.get("real_tokens_per_s")
    return round(ours / theirs, 3) if ours and theirs else None


def _needed(record: Record, suite: str, scale: Scale) -> float:
    """What a row may take: the longest so far of its suite, and not less than a start."""
    return max([2.0 if scale.smoke else 20.0, *(row["seconds"] for row in record.rows() if row["suite"] == suite)])


def _forget_ranks() -> None:
    """One process, whatever started it."""
    from launcher.worker.process import forget_torchrun

    forget_torchrun()
