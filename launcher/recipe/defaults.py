# ruff: noqa: FBT003
"""Every default that differs from the library's, with the reason. A test compares both columns with the real ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """One key: our default, the class that has the same key, its default, and why ours is another."""

    key: str
    ours: Any
    library: str
    theirs: Any
    reason: str


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "peft.r",
        16,
        "LoraConfig",
        8,
        "Rank 8 limits what is learned from more than a few thousand rows; 16 costs little more memory.",
    ),
    Difference(
        "peft.lora_alpha",
        32.0,
        "LoraConfig",
        8,
        "Keeps the scale alpha / r at 2, so that the learning rate below fits.",
    ),
    Difference(
        "peft.target_modules",
        "all-linear",
        "LoraConfig",
        None,
        "Adapters on every linear layer match full fine-tuning more closely than on attention alone (Dettmers et al., 2023).",
    ),
    Difference(
        "quantization.bnb_4bit_quant_type",
        "nf4",
        "BitsAndBytesConfig",
        "fp4",
        "NormalFloat fits the distribution of trained weights better (Dettmers et al., 2023).",
    ),
    Difference(
        "quantization.bnb_4bit_use_double_quant",
        True,
        "BitsAndBytesConfig",
        False,
        "Saves about 0.4 bits per parameter without a measurable loss (Dettmers et al., 2023).",
    ),
    Difference(
        "quantization.bnb_4bit_compute_dtype",
        "auto",
        "BitsAndBytesConfig",
        None,
        "The library computes in float32; bfloat16 is several times faster where the GPU has it.",
    ),
    Difference(
        "quantization.bnb_4bit_quant_storage",
        "auto",
        "BitsAndBytesConfig",
        None,
        "The library's uint8, but where weights are shared out: there each rank would keep all codes.",
    ),
    Difference(
        "data.max_length",
        4096,
        "SFTConfig",
        1024,
        "Conversations are often longer than 1,024 tokens, and cut ones never learn to stop.",
    ),
    Difference(
        "training.learning_rate",
        "auto",
        "SFTConfig",
        2e-5,
        "2e-4 with an adapter, which starts from nothing; 2e-5 for full fine-tuning.",
    ),
    Difference(
        "training.per_device_train_batch_size",
        "auto",
        "SFTConfig",
        8,
        "Memory decides; the global batch size stays what you wrote.",
    ),
    Difference(
        "training.gradient_accumulation_steps",
        "auto",
        "SFTConfig",
        1,
        "Follows from the global batch size and the number of ranks.",
    ),
    Difference(
        "training.optim",
        "auto",
        "SFTConfig",
        "adamw_torch_fused",
        "Chosen for the hardware, with the reason in the plan.",
    ),
    Difference(
        "training.activation_checkpointing",
        "auto",
        "SFTConfig",
        None,
        "Chosen for the hardware, with the reason in the plan.",
    ),
    Difference(
        "training.logging_steps",
        1,
        "SFTConfig",
        10,
        "Every step in events.jsonl and report.html; it costs nothing measurable.",
    ),
    Difference("checkpoint.save_steps", 200, "SFTConfig", 500, "A kill costs fewer steps."),
    Difference(
        "checkpoint.save_total_limit",
        3,
        "SFTConfig",
        None,
        "Disks fill up; the newest three complete checkpoints are enough to go back.",
    ),
)
"""In life-cycle order of the sections."""
