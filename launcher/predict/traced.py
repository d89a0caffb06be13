"""Memory of one device by a trace: what `python -m launcher.worker.trace` counted, with what a trace of one rank cannot see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from launcher.predict.prediction import Memory, Moment

SHARED = ("weights", "quantization", "gradients", "optimizer")
"""What a strategy shares out among ranks."""
BESIDE = ("gather", "context", "fragmentation")
"""What one rank alone, on tensors without memory, does not have."""


@dataclass(frozen=True)
class Trace:
    """One training step of one rank, counted on tensors without memory."""

    layers: int
    """Layers of the model."""
    copies: tuple[int, ...]
    """Layers of the small models that were counted; the whole model follows from them. One: the model itself."""
    peaks: Mapping[str, Mapping[str, int]]
    """Moment → term → bytes of a rank that shares nothing."""
    own: Mapping[str, Mapping[str, int]]
    """Moment → term → bytes of what is never shared out, at its own largest."""
    flops: Mapping[str, int] = field(default_factory=dict)
    """Phase (`forward`, `loss`, `backward`) → floating-point operations of one pass, with what is computed again."""

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Trace:
        """The trace that the worker answered with."""
        return cls(int(answer["layers"]), tuple(answer["copies"]), answer["peaks"], answer["own"], answer["flops"])


def memory(trace: Trace, *, strategy: str, formula: Memory | None) -> Memory:
    """Memory of one device at its peak, by term.

    Where ranks share nothing, all that torch's allocator gives out is counted, and the formula adds what is beside it.
    Where they do, the count gives what each rank has for itself at the formula's moment, and the formula what is shared
    out, gathered and exchanged then.

    Args:
        trace: what was counted.
        strategy: of the plan.
        formula: what `launcher.predict.memory` says; None: nothing is added, and a strategy that shares out is not known.
    """
    beside = {name: size for name, size in (formula.terms if formula else {}).items() if name in BESIDE}
    if strategy == "ddp" or formula is None:
        moments = {moment: sum(terms.values()) for moment, terms in trace.peaks.items()}
        highest = max(moments, key=moments.__getitem__)
        return Memory(_positive({**trace.peaks[highest], **beside}), cast("Moment", highest), moments)
    shared = {name: size for name, size in formula.terms.items() if name in SHARED}
    terms = _positive({**trace.own.get(formula.moment, {}), **shared, **beside})
    made = Memory(terms, formula.moment)
    return Memory(terms, formula.moment, {formula.moment: made.allocated})


def _positive(terms: Mapping[str, int]) -> dict[str, int]:
    return {name: size for name, size in terms.items() if size > 0}
