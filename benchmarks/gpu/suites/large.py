"""What fits on one card: 32B and 72B models, the latter in 4 bits and built layer by layer."""

from __future__ import annotations

from benchmarks.gpu.attention import fastest
from benchmarks.gpu.record import Record, Row
from benchmarks.gpu.setup import Scale, Setup
from benchmarks.gpu.shapes import QWEN3_32B, QWEN25_72B
from benchmarks.gpu.suites.table import trainings

SUITE = "large"


def rows(scale: Scale, record: Record) -> list[Row]:
    """The plainest of the 72B first: later ones may run out of memory."""
    kernel = fastest(scale.device)
    setups = {
        "72b-qlora-2048": Setup(QWEN25_72B, "qlora", packing=True, rows=1, max_length=2048, attention=kernel),
        "72b-qlora-4096": Setup(QWEN25_72B, "qlora", packing=True, rows=1, max_length=4096, attention=kernel),
        "32b-qlora-8192": Setup(QWEN3_32B, "qlora", packing=True, rows=2, max_length=4096, attention=kernel),
        "32b-lora-2048": Setup(QWEN3_32B, "lora", packing=True, rows=1, max_length=2048, attention=kernel),
    }
    return trainings(SUITE, setups, scale, record)
