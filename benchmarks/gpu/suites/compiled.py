"""`torch_compile`: what it gains on packed rows, whose shape never changes, and what it costs before the first step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.gpu.attention import fastest
from benchmarks.gpu.record import Record, Row
from benchmarks.gpu.setup import Scale, Setup
from benchmarks.gpu.shapes import QWEN3_06B
from benchmarks.gpu.suites.table import trainings
from benchmarks.gpu.training import measure

SUITE = "compile"


def rows(scale: Scale, record: Record) -> list[Row]:
    """Each method as it is, then compiled. In the smoke mode dynamo traces, and no kernel is generated."""
    kernel = "sdpa" if scale.smoke else fastest(scale.device)  # fewer graphs to trace
    setups = {
        method: Setup(QWEN3_06B, method, packing=True, rows=2, attention=kernel, checkpointing=False)
        for method in (("lora",) if scale.smoke else ("lora", "full"))
    }
    plain = trainings(SUITE, {f"{name}-eager": setup for name, setup in setups.items()}, scale, record)
    compiled = [
        Row(SUITE, f"{name}-compiled", scale.fit(each).described(), lambda each=each: _measured(each, scale), f"{name}-eager")
        for name, each in ((name, replace(setup, torch_compile=True)) for name, setup in setups.items())
    ]  # fmt: skip
    return [*plain, *compiled]


def _measured(setup: Setup, scale: Scale) -> dict[str, Any]:
    from torch._dynamo.utils import counters

    counters.clear()
    figures = measure(setup, scale)
    return {
        **figures,
        "graphs": counters["stats"].get("unique_graphs", 0),
        "graph_breaks": sum(counters["graph_break"].values()),
        "backend": "eager" if scale.smoke else "inductor",
    }
