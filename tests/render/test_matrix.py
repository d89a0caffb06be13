"""The page of the compatibility table is what the table says, and has no empty cell."""

import os
from pathlib import Path

from launcher.plan import compatibility
from launcher.render import matrix

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "sharding.md"


def test_the_page_is_current():
    """`make golden` writes it."""
    if os.environ.get("LAUNCHER_GOLDEN"):
        PAGE.write_text(matrix.page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == matrix.page()


def test_every_cell_has_its_word():
    """6 strategies × 3 offloads × 4 methods, each works, is refused, or needs a GPU."""
    words = [compatibility.verdict(cell) for cell in compatibility.cells()]
    assert len(words) == 72
    page = matrix.page()
    table = page[page.index("|---") : page.index("## Reasons")]
    for word in ("works", "refused", "needs GPU"):
        assert table.count(word) == words.count(word) > 0
