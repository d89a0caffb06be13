"""8-bit and paged optimizers: that their states are what they are called, and what they save."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.gpu import attention, machine
from benchmarks.gpu.arithmetic import GIB
from benchmarks.gpu.record import Record, Row
from benchmarks.gpu.setup import Scale, Setup
from benchmarks.gpu.shapes import QWEN3_06B
from benchmarks.gpu.training import make_trainer

SUITE = "optimizers"
NAMES = ("adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit")


def rows(scale: Scale, _: Record) -> list[Row]:
    """Full fine-tuning of a small model in bfloat16: paged states stay far below the card's free memory."""
    kernel = attention.fastest(scale.device)
    return [
        Row(SUITE, name, scale.fit(setup).described(), lambda setup=setup: measured(setup, scale))
        for name, setup in (
            (name, Setup(QWEN3_06B, "full", packing=True, rows=1, attention=kernel, optim=name)) for name in NAMES
        )
    ]


def measured(setup: Setup, scale: Scale) -> dict[str, Any]:
    """Three steps, then the states by type and place."""
    setup = scale.fit(setup)
    attention.require(setup.attention, scale.device)
    machine.release()
    trainer, _ = make_trainer(setup, scale, steps=3)
    trainer.train()
    states = [value for state in trainer.optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    large = [state for state in states if state.numel() >= 4096]  # smaller ones stay in float32
    paged = [state for state in large if getattr(state, "is_paged", False)]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "state_types": sorted({str(state.dtype) for state in large}),
        "state_gib": sum(state.numel() * state.element_size() for state in states) / GIB,
        "paged_states": len(paged),
        "large_states": len(large),
        "peak_allocated_gib": None if scale.smoke else machine.peaks()["peak_allocated_gib"],
        "loss_last": losses[-1] if losses else None,
    }
