"""Peak memory against the expectation, over models, methods, checkpointing and lengths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.gpu.attention import fastest
from benchmarks.gpu.record import Record, Row
from benchmarks.gpu.setup import Scale, Setup
from benchmarks.gpu.shapes import QWEN3_06B, QWEN3_8B, QWEN3_14B
from benchmarks.gpu.suites.table import trainings

SUITE = "memory"
_CHECKPOINTING: dict[str, dict[str, Any]] = {
    "checkpointed": {},
    "selective": {"checkpointing_kwargs": (("selective", True),)},
    "kept": {"checkpointing": False},
}


def rows(scale: Scale, record: Record) -> list[Row]:
    """Packed rows, full to the last document: tokens of a step are as expected."""
    kernel = fastest(scale.device)
    setups = {
        f"{shape.name}/{method}/{name}/{length}": replace(
            Setup(
                shape, method, packing=True, rows=1, max_length=length, attention=kernel,
                optim="adamw_8bit" if method == "full" else "adamw_torch_fused",
            ),
            **change,
        )
        for shape in (QWEN3_06B, QWEN3_8B, QWEN3_14B)
        for method in ("lora", "qlora", "full")
        for name, change in _CHECKPOINTING.items()
        for length in (1024, 4096, 16384)
    }  # fmt: skip
    chosen = dict(list(setups.items())[:: 16 if scale.smoke else 1])
    return trainings(SUITE, chosen, scale, record)
