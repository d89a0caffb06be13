"""The suites, in the order in which they are worth their time."""

from __future__ import annotations

from benchmarks.gpu.record import Record, Row
from benchmarks.gpu.setup import Scale

SUITES = ("ceilings", "packed", "ladder", "memory", "tokens", "optimizers", "compile", "large", "sharded")


def rows(names: tuple[str, ...], scale: Scale, record: Record) -> list[Row]:
    """All rows of these suites; the same list in every process of a run."""
    from benchmarks.gpu.suites import ceilings, compiled, ladder, large, memory, optimizers, packed, sharded, tokens

    modules = (ceilings, packed, ladder, memory, tokens, optimizers, compiled, large, sharded)
    every = {module.SUITE: module for module in modules}
    assert tuple(every) == SUITES
    return [row for name in names for row in every[name].rows(scale, record)]
