"""A trace beside the formula: memory by term, and how far apart they are."""

from __future__ import annotations

from launcher.predict.prediction import TERMS, Memory
from launcher.predict.traced import Trace
from launcher.render.memory_text import MOMENTS, name
from launcher.text import counted, flops, gib, table

_WORTH_TELLING = 0.01
"""Terms below this share of the peak stand without a difference."""


def trace_text(trace: Trace, traced: Memory, formula: Memory | None, *, device: str) -> str:
    """The lines that `launcher plan --trace` adds.

    Args:
        trace: what was counted.
        traced: memory by the trace.
        formula: memory by the formula; None where it does not know the model.
        device: `cuda` or `cpu`.
    """
    rows = [("", *(("formula",) if formula else ()), "trace", "")]
    for term in TERMS:
        sizes = [each.terms.get(term, 0) for each in (formula, traced) if each]
        if any(sizes):
            apart = _apart(*sizes) if max(sizes) > _WORTH_TELLING * traced.total else ""
            rows.append((name(term, device), *(gib(size) if size else "-" for size in sizes), apart))
    totals = [each.total for each in (formula, traced) if each]
    rows.append(("together", *map(gib, totals), _apart(*totals)))
    first, *rest = [*_how(trace, traced), *table(rows, right=frozenset({1, 2, 3})).splitlines()]
    return "\n".join([f"TRACE     {first}", *(f"          {line.rstrip()}" for line in rest)]) + "\n"


def _how(trace: Trace, traced: Memory) -> list[str]:
    operations = sum(trace.flops.values())
    whole = f"each tensor of a step of all {counted(trace.layers, 'layer')} counted"
    copies = " and ".join(map(str, trace.copies))
    how = (
        f"each tensor of a step counted on {copies} layers, carried on to {trace.layers}"
        if len(trace.copies) > 1
        else whole
    )
    return [f"{how}; highest in {MOMENTS[traced.moment]}; {flops(operations)} a pass"]


def _apart(formula: int, traced: int | None = None) -> str:
    """How far the formula is from the trace."""
    if traced is None or not formula or not traced:
        return ""
    return f"{100 * (formula / traced - 1):+.1f} %" if formula < 10 * traced else ""
