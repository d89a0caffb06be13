"""What one training is: a frozen description that the suites list and `training.py` carries out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from benchmarks.gpu.shapes import TINY, Shape


@dataclass(frozen=True)
class Setup:
    """One training, by TRL's and transformers' names where they have one."""

    shape: Shape
    method: Literal["full", "lora", "qlora"]
    packing: bool = False
    rows: int = 4
    """Rows (packed rows, when packing) per step on the one GPU; no accumulation."""
    max_length: int = 4096
    documents: Literal["chat", "full"] = "chat"
    """`chat`: seeded log-normal lengths; `full`: each document as long as a row, as mock-data benchmarks have it."""
    attention: str = "sdpa"
    checkpointing: bool = True
    checkpointing_kwargs: tuple[tuple[str, Any], ...] = ()
    optim: str = "adamw_torch_fused"
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Weights of the base; adapters of a plain base are float32, of a quantized one bfloat16 (TRL's choice)."""
    torch_compile: bool = False
    liger: bool = False
    """Liger's kernels for norms, rotary embedding and feed-forward; not for the loss, which TRL fuses itself."""
    loop: Literal["trainer", "bare"] = "trainer"
    """`bare`: TRL's batches and loss in a loop of a dozen lines, to see what the Trainer's own loop costs."""
    rank: int = 16

    def described(self) -> dict[str, Any]:
        """For the record: plain JSON, the shape by name."""
        return {**asdict(self), "shape": self.shape.name, "checkpointing_kwargs": dict(self.checkpointing_kwargs)}


@dataclass(frozen=True)
class Scale:
    """Where and how long: the real thing, or the smoke mode's rehearsal of it."""

    smoke: bool

    @property
    def device(self) -> str:
        """Torch's device type."""
        return "cpu" if self.smoke else "cuda"

    @property
    def warm_up(self) -> int:
        """Steps that are not timed."""
        return 1 if self.smoke else 5

    @property
    def timed(self) -> int:
        """Steps that are timed; the median counts."""
        return 2 if self.smoke else 15

    def fit(self, setup: Setup) -> Setup:
        """The setup as it is, or with tiny sizes in float32: everything else goes the same way."""
        if not self.smoke:
            return setup
        return replace(
            setup, shape=TINY, dtype="float32", rows=min(setup.rows, 2), max_length=max(32, setup.max_length // 64), rank=4
        )  # fmt: skip
