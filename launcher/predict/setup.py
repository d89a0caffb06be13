"""What is predicted: one training setup, as sizes and names. No recipe, no machine: plain values from which arithmetic follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from launcher.catalog.gpus import GpuRow
from launcher.predict.architecture import Architecture

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of an element by torch's name of its type."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter by the layers that it stands beside."""

    ranks: Mapping[str, int]
    """Adapted layer (dotted name) → rank."""
    dtype: str
    """Type of its weights while they are trained."""
    dropout: bool = False
    dora: bool = False
    whole: tuple[str, ...] = ()
    """Modules trained in full beside it (`modules_to_save`), dotted names."""
    biases: Literal["none", "all", "lora_only"] = "none"
    """Biases of the model that are trained with it; `lora_only`: of the adapted layers."""
    new_rows: int = 0
    """Rows of added tokens that are trained in the embedding (and in an output head of its own)."""


@dataclass(frozen=True)
class Checkpointing:
    """Activations that are computed again in the backward pass instead of being kept."""

    every_n_layers: int = 1
    selective: bool = False
    """The result of attention is kept, the rest computed again."""
    offload: bool = False
    """What is kept lies in host memory."""


@dataclass(frozen=True)
class Setup:
    """One training on one kind of device. Sizes are those of one rank."""

    model: Architecture
    method: Literal["full", "lora", "qlora", "int8"]
    dtype: str
    """Type of the weights in memory (of those that are not quantized)."""
    precision: str
    """Type of the matrix products; another than `dtype` means autocast."""
    optim: str
    rows: int
    """Rows of one forward pass (`per_device_train_batch_size`)."""
    length: int
    """Tokens of the longest row, padding included."""
    attention: str
    """`attn_implementation`, by transformers' or our names."""
    device: Literal["cpu", "cuda"]
    adapter: Adapter | None = None
    double_quant: bool = True
    """4-bit constants are quantized themselves."""
    checkpointing: Checkpointing | None = None
    packing: bool = False
    lengths: tuple[tuple[int, float], ...] = ()
    """Tokens, ascending, and how often a row of about so many is drawn. Empty: all have `length`."""
    document: int | None = None
    """Mean tokens of a document within a packed row, weighted by tokens; None: as long as the row."""
    accumulation: int = 1
    strategy: Literal["ddp", "fsdp2", "zero1", "zero2", "zero3"] = "ddp"
    offload: Literal["none", "optimizer", "params"] = "none"
    ranks: int = 1
    ranks_per_node: int = 1
    group: int | None = None
    """Ranks that share one copy of the model under hybrid sharding; None: all."""
    gpu: GpuRow | None = None
    compile: bool = False
    settings: Mapping[str, float | int | bool | str] = field(default_factory=dict)
    """Keys of a sharding preset that change what is held (`reduce_bucket_size`, `reshard_after_forward`, …)."""

    @property
    def tokens(self) -> int:
        """Tokens of one forward pass on one rank."""
        return self.rows * self.length

    @property
    def usual_length(self) -> int:
        """Tokens that a row is padded to in a usual batch: the mean of the longest of `rows` that are drawn."""
        every = sum(often for _, often in self.lengths)
        if not every:
            return self.length
        mean = below = 0.0
        for tokens, often in self.lengths:
            drawn = below + often / every
            mean += min(tokens, self.length) * (drawn**self.rows - below**self.rows)
            below = drawn
        return max(1, round(mean))

    @property
    def shards(self) -> int:
        """Ranks that share one copy of what the strategy shares out."""
        return 1 if self.strategy == "ddp" else self.group or self.ranks
