"""What a run was measured to take, beside what its plan had predicted: one line for `status`, a table for the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from launcher import text
from launcher.plan.types import Plan
from launcher.predict.prediction import Prediction
from launcher.runs.measures import Measures

Row = tuple[str, str, str, str]
"""What it is, planned, measured, by how much it differs. `-`: nobody predicts it, or it was not measured."""


@dataclass(frozen=True)
class Compared:
    """The figures of one run. Without a prediction only what was measured is told."""

    measures: Measures
    plan: Plan | None = None

    @property
    def predicted(self) -> Prediction | None:
        """What the plan expects."""
        return self.plan.prediction if self.plan else None

    @property
    def packed(self) -> bool:
        """Every token of a row is one of its texts: speeds with and without padding are the same."""
        return self.plan is not None and self.plan.data.packing

    def line(self, left_s: float | None = None) -> str:
        """`4.58k tok/s (plan 4.6k) · 57.2 s/step, p99 61 · 31 min left · peak 29.3 GiB (plan 28.8, +2 %)`."""
        told = [self._tokens(), self._step(), left_s is not None and f"{text.duration(left_s)} left", self._memory()]
        return " · ".join(part for part in told if part)

    def rows(self) -> list[Row]:
        """One row for each figure."""
        return [*self._times(), *self._bytes()]

    def _tokens(self) -> str:
        measured, time = self.measures.tokens_per_s, self.predicted.time if self.predicted else None
        if measured is None:
            return ""
        planned = f" (plan {text.count(time.tokens_per_s)})" if time and self.packed else ""
        return f"{text.count(measured)} tok/s{planned}"

    def _step(self) -> str:
        found = self.measures
        if found.step_s is None:
            return ""
        slow = f", p99 {found.step_p99_s:.3g}" if found.step_p99_s and found.step_p99_s > 1.02 * found.step_s else ""
        planned = self._planned_s()
        shown = f" (plan {planned:.3g}, {_off(found.step_s, planned)})" if planned and not self.packed else ""
        return f"{found.step_s:.3g} s/step{slow}{shown}"

    def _planned_s(self) -> float | None:
        """Of a step with as many tokens as were computed; of one as it was planned, before that is known."""
        time = self.predicted.time if self.predicted else None
        if time is None:
            return None
        computed = self.measures.computed_tokens
        return time.step_s * computed / time.tokens if computed else time.step_s

    def _memory(self) -> str:
        allocated, process = self.measures.most("allocated_bytes"), self.measures.most("anonymous_bytes")
        memory = self.predicted.memory if self.predicted else None
        if allocated is not None:
            planned = f" (plan {memory.allocated / 2**30:.1f}, {_off(allocated, memory.allocated)})" if memory else ""
            return f"peak {text.gib(allocated)}{planned}"
        if process is not None:
            return f"process {text.gib(process)}{self._process(process)}"
        return f"peak {self.measures.resident_gib:.1f} GiB" if self.measures.resident_gib is not None else ""

    def _process(self, measured: int) -> str:
        """The plan counts tensors; only a calibrated one knows what the rest of a process takes."""
        if self.predicted is None:
            return ""
        memory = self.predicted.memory
        if "context" in memory.terms:
            return f" (plan {text.gib(memory.total)}, {_off(measured, memory.total)})"
        return f" (plan {text.gib(memory.allocated)} of it tensors)"

    def _times(self) -> Iterator[Row]:
        found, time = self.measures, self.predicted.time if self.predicted else None
        yield from _row("seconds per step, median", self._planned_s(), found.step_s, _seconds)
        yield from _row("seconds per step, 90 and 99 of 100 below", None, found.step_p90_s, _seconds, found.step_p99_s)
        planned = time.tokens_per_s if time else None
        yield from _row("tokens/s computed, padding included", planned, found.computed_tokens_per_s, text.count)
        yield from _row("tokens/s trained", None, found.tokens_per_s, text.count)

    def _bytes(self) -> Iterator[Row]:
        most, memory = self.measures.most, self.predicted.memory if self.predicted else None
        of = f", most of {len(self.measures.ranks)} ranks" if len(self.measures.ranks) > 1 else ""
        if most("anonymous_bytes") is not None:
            whole = memory.total if memory and "context" in memory.terms else None
            tensors = memory.allocated if memory else None
            yield from _row(f"memory of the process{of}", whole, most("anonymous_bytes"), text.gib)
            if whole is None:
                yield from _row("of it tensors", tensors, None, text.gib)
            return
        terms = memory.terms if memory else {}
        allocated = memory.allocated if memory else None
        taken = None if allocated is None else allocated + terms.get("fragmentation", 0)
        yield from _row(f"GPU memory given out{of}", allocated, most("allocated_bytes"), text.gib)
        yield from _row(f"GPU memory taken from the device{of}", taken, most("reserved_bytes"), text.gib)
        yield from _row(
            "beside it: contexts, NCCL, other programs", terms.get("context"), most("outside_bytes"), text.gib
        )


def as_json(plan: Plan | None) -> dict[str, Any] | None:
    """The figures that a run can be held to; None where nothing was predicted."""
    prediction = plan.prediction if plan else None
    if prediction is None:
        return None
    time = prediction.time
    return {
        "memory_bytes": prediction.memory.total,
        "allocated_bytes": prediction.memory.allocated,
        "step_s": time.step_s if time else None,
        "tokens_per_s": time.tokens_per_s if time else None,
        "run_s": prediction.run_s,
    }


def _row(
    name: str, planned: float | None, measured: float | None, show: Any, also: float | None = None
) -> Iterator[Row]:
    if planned is None and measured is None:
        return
    both = planned is not None and measured is not None
    shown = "-" if measured is None else show(measured) if also is None else f"{show(measured)} · {show(also)}"
    off = _off(measured, planned) if both and measured is not None and planned else "-"
    yield name, "-" if planned is None else show(planned), shown, off


def _seconds(value: float) -> str:
    return f"{value:.3g}"


def _off(measured: float, planned: float) -> str:
    """By how much the measured figure is above the planned one."""
    return f"{round(100 * (measured / planned - 1)):+d} %" if planned else "-"
