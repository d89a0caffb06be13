"""What this card can do: large matrix products, copies, and the memory that CUDA itself takes."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from benchmarks.gpu.arithmetic import GIB
from benchmarks.gpu.record import Record, Row
from benchmarks.gpu.setup import Scale

SUITE, MATMUL = "ceilings", "matmul"


def rows(scale: Scale, _: Record) -> list[Row]:
    """The context first: the others make one."""
    side, gib = (256, 0.01) if scale.smoke else (8192, 4.0)
    return [
        Row(SUITE, "context", {}, lambda: _context(scale)),
        Row(SUITE, MATMUL, {"side": side, "data": "normal, random"}, lambda: _matmul(scale, side)),
        Row(SUITE, "copy", {"gib": gib, "counted": "bytes read and written"}, lambda: _copy(scale, gib)),
    ]


def matmul_flops(record: Record) -> float | None:
    """The measured rate of this run; None before or without it."""
    found = record.result(SUITE, MATMUL)
    return found["flops"] if found else None


def _context(scale: Scale) -> dict[str, Any]:
    """Memory in use on the whole device before and after this process' first product."""
    if scale.smoke:
        return {"context_gib": None}
    free, _ = torch.cuda.mem_get_info()
    one = torch.ones(16, 16, device="cuda", dtype=torch.bfloat16)
    (one @ one).sum().item()
    after, total = torch.cuda.mem_get_info()
    return {"context_gib": (total - after) / GIB, "first_product_gib": (free - after) / GIB, "total_gib": total / GIB}


def _matmul(scale: Scale, side: int) -> dict[str, Any]:
    dtype = torch.float32 if scale.smoke else torch.bfloat16
    left, right = (torch.randn(side, side, device=scale.device, dtype=dtype) for _ in range(2))
    seconds = _timed(scale, lambda: left @ right)
    return {"flops": None if scale.smoke else 2 * side**3 / seconds}


def _copy(scale: Scale, gib: float) -> dict[str, Any]:
    source = torch.randint(0, 255, (int(gib * GIB),), device=scale.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    seconds = _timed(scale, lambda: target.copy_(source))
    return {"bytes_per_s": None if scale.smoke else 2 * source.numel() / seconds}


def _timed(scale: Scale, work: Any) -> float:
    """Median seconds of one call after warm-up."""
    seconds = []
    for _ in range(scale.warm_up + scale.timed):
        if scale.smoke:
            before = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - before)
            continue
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3)
    return statistics.median(seconds[scale.warm_up :])
