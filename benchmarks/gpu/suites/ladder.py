"""One setting at a time, from TRL's defaults to the best known, for full fine-tuning, LoRA and QLoRA of an 8B model."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.gpu.attention import fastest
from benchmarks.gpu.record import Record, Row
from benchmarks.gpu.setup import Scale, Setup
from benchmarks.gpu.shapes import LLAMA31_8B, QWEN3_8B
from benchmarks.gpu.suites.table import trainings

SUITE = "ladder"


def rows(scale: Scale, record: Record) -> list[Row]:
    """Every row is compared with plain TRL of its method: padded rows of 4, checkpointing on, sdpa."""
    kernel = fastest(scale.device)
    ladders = {"lora": _lora(kernel), "qlora": _quantized(kernel), "full": _full(kernel)}
    setups = {
        f"{method}/{name}": replace(setup, method=method)
        for method, ladder in ladders.items()
        for name, setup in ladder.items()
    }
    baselines = {name: f"{name.partition('/')[0]}/trl-defaults" for name in setups if not name.endswith("trl-defaults")}
    if scale.smoke:
        del setups["lora/no-checkpointing-compile"]  # tracing takes half a minute, and the suite `compile` does it
    del baselines["lora/mock-data-8b"]  # another model and other data: for the table of published figures only
    return trainings(SUITE, setups, scale, record, baselines)


def _lora(kernel: str) -> dict[str, Setup]:
    plain = Setup(QWEN3_8B, "lora")
    packed = replace(plain, packing=True, rows=2)  # as many tokens as four padded rows: 8,192 at most
    fast = replace(packed, attention=kernel)
    off = replace(fast, checkpointing=False)
    kernels = ("sdpa_documents", "sdpa_varlen", "flex_attention", "flash_attention_2", "flash_attention_3")
    return {
        "trl-defaults": plain,
        "packed-sdpa": packed,
        **{f"packed-{name}": replace(packed, attention=name) for name in kernels},
        "packed-liger": replace(fast, liger=True),
        "selective-checkpointing": replace(fast, checkpointing_kwargs=(("selective", True),)),
        "every-2-checkpointing": replace(fast, checkpointing_kwargs=(("every_n_layers", 2),)),
        "no-checkpointing": off,
        "no-checkpointing-liger": replace(off, liger=True),
        "no-checkpointing-compile": replace(off, torch_compile=True),
        "bare-loop": replace(off, loop="bare"),
        "mock-data-8b": Setup(LLAMA31_8B, "lora", rows=2, documents="full", checkpointing=False),
    }


def _quantized(kernel: str) -> dict[str, Setup]:
    plain = Setup(QWEN3_8B, "qlora")
    fast = replace(plain, packing=True, rows=2, attention=kernel)
    return {
        "trl-defaults": plain,
        "packed": fast,
        "no-checkpointing": replace(fast, checkpointing=False),
        "small-card": replace(fast, rows=1, max_length=2048, optim="paged_adamw_8bit"),
    }


def _full(kernel: str) -> dict[str, Setup]:
    plain = Setup(QWEN3_8B, "full", dtype="float32")
    fast = replace(plain, packing=True, rows=2, attention=kernel)
    return {
        "trl-defaults": plain,
        "packed": fast,
        "bfloat16-8bit-optimizer": replace(fast, dtype="bfloat16", optim="adamw_8bit"),
        "bfloat16-8bit-no-checkpointing": replace(
            fast, dtype="bfloat16", optim="adamw_8bit", checkpointing=False, rows=1
        ),
    }
