"""The formula and the trace, which know nothing of one another, say the same of every recipe that is shipped."""

from pathlib import Path

import pytest

from benchmarks.predictor.trace_vs_formula import compared, recipes, row


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "on"), tuple(recipes()), ids=lambda each: each.stem if isinstance(each, Path) else str(each)
)
def test_formula_and_trace_agree(file: Path, on: str | None, tmp_path: Path) -> None:
    """Within 5 % of what torch's allocator gives out."""
    found = compared(file, on, tmp_path)

    print(row(found))
    assert found.formula.allocated == pytest.approx(found.traced.allocated, rel=0.05)
