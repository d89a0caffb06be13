"""What a prediction says: memory by term, time by part, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

TERMS = (
    "weights",
    "quantization",
    "gradients",
    "optimizer",
    "activations",
    "loss",
    "gather",
    "workspace",
    "context",
    "fragmentation",
)
"""Terms of a GPU's memory, in the order in which they are shown."""

Moment = Literal["forward", "loss", "backward", "step", "load"]
"""Where in a training the peak is: before, in or behind the loss, or in the optimizer's step; `load`: while the model is made."""
Verdict = Literal["fits", "tight", "does not fit"]


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the peak, by term (`TERMS`); terms of nothing are left out."""

    terms: Mapping[str, int]
    moment: Moment
    moments: Mapping[str, int] = field(default_factory=dict)
    """Moment → bytes that torch's allocator has given out then."""

    @property
    def total(self) -> int:
        """Bytes that the device must have free."""
        return sum(self.terms.values())

    @property
    def allocated(self) -> int:
        """Bytes that torch's allocator gives out: without the context, and without what lies unused between blocks."""
        return self.total - self.terms.get("context", 0) - self.terms.get("fragmentation", 0)


@dataclass(frozen=True)
class Time:
    """Seconds of one optimizer step by part (`compute`, `dequantize`, `optimizer`, `communication`, `offload`, `overhead`)."""

    parts: Mapping[str, float]
    tokens: int
    """Tokens of one step over all ranks, padding included."""
    model_flops: float
    """Floating-point operations of one step that the mathematics needs, all ranks."""
    hardware_flops: float
    """The same with what is computed again."""
    rate: Literal["catalogue", "calibrated"] = "catalogue"
    """Where the device's speed is from."""

    @property
    def step_s(self) -> float:
        """Seconds of one optimizer step."""
        return sum(self.parts.values())

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second over all ranks, padding included."""
        return self.tokens / self.step_s


@dataclass(frozen=True)
class Change:
    """Another way to run the same recipe, predicted like the first."""

    sets: tuple[str, ...]
    """What to write, as `--set` takes it: `training.activation_checkpointing=true`."""
    reason: str
    """What it gives and costs, in one sentence."""
    memory: int
    """Bytes at the peak on one device."""
    step_s: float | None
    """Seconds of one optimizer step of the same global batch."""
    verdict: Verdict


@dataclass(frozen=True)
class Prediction:
    """What is expected of a plan before it runs. Bytes, seconds."""

    memory: Memory
    capacity: int
    """Bytes that one device has free (of host memory: one rank's part of it)."""
    verdict: Verdict
    host: Mapping[str, int] = field(default_factory=dict)
    """Host memory of a node by term: `loading`, `offload`, `workers`, …"""
    host_capacity: int | None = None
    disk: Mapping[str, int] = field(default_factory=dict)
    """Bytes on disk by term: `checkpoints`, `data`, `model`, `merged`."""
    time: Time | None = None
    run_s: float | None = None
    """Seconds of all steps, without waiting, loading and measuring."""
    gpu_hours: float | None = None
    energy_kwh: float | None = None
    cost: str | None = None
    """In the currency of the cluster's profile."""
    fixes: tuple[Change, ...] = ()
    """Smallest changes that make it fit, cheapest in speed first; each fits by its own prediction."""
    alternatives: tuple[Change, ...] = ()
    """What else was looked at for a choice that was left open."""
    formula_s: float | None = None
    """Seconds of one step by the formulas alone, on a CPU for a processor that there is none of: what a measurement is held to."""
    formula_tokens: int | None = None
    """Tokens that this step counts, over all ranks, padding included."""
    flops: float | None = None
    """Floating-point operations of one step over all ranks, with what is computed again; known also where the speed is not."""
    calibrated: Mapping[str, float] = field(default_factory=dict)
    """What the formulas' figures were corrected by (`Calibration.factors`); empty where no run was learned from."""

    @property
    def margin(self) -> int:
        """Bytes to spare; negative where it does not fit."""
        return self.capacity - self.memory.total
