"""Rows of trainings from a table of setups."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.gpu.record import Record, Row
from benchmarks.gpu.setup import Scale, Setup
from benchmarks.gpu.suites.ceilings import matmul_flops
from benchmarks.gpu.training import measure


def trainings(
    suite: str, setups: Mapping[str, Setup], scale: Scale, record: Record, baselines: Mapping[str, str] | None = None
) -> list[Row]:
    """One row for each setup, by its variant's name; `baselines` names the row that it is compared with."""
    return [
        Row(
            suite,
            variant,
            scale.fit(setup).described(),
            lambda setup=setup: measure(setup, scale, matmul_flops(record)),
            (baselines or {}).get(variant),
        )
        for variant, setup in setups.items()
    ]
