"""QLoRA beside LoRA as a step grows: expanding 4-bit weights costs the same for few tokens and for many."""

from __future__ import annotations

from benchmarks.gpu.attention import fastest
from benchmarks.gpu.record import Record, Row
from benchmarks.gpu.setup import Scale, Setup
from benchmarks.gpu.shapes import QWEN3_8B
from benchmarks.gpu.suites.table import trainings

SUITE = "tokens"


def rows(scale: Scale, record: Record) -> list[Row]:
    """For each number of tokens LoRA, then QLoRA compared with it."""
    kernel, setups, baselines = fastest(scale.device), {}, {}
    for length in (2048, 4096, 8192, 16384)[: 1 if scale.smoke else None]:
        for method in ("lora", "qlora"):
            setups[f"{method}-{length}"] = Setup(
                QWEN3_8B, method, packing=True, rows=1, max_length=length, attention=kernel
            )
        baselines[f"qlora-{length}"] = f"lora-{length}"
    return trainings(SUITE, setups, scale, record, baselines)
