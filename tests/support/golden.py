"""Whole outputs kept as files; `make golden` rewrites them, and the diff is reviewed."""

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent / "golden"


def check(name: str, text: str) -> None:
    """Compare `text` with the golden file NAME, byte for byte."""
    path = ROOT / name
    if os.environ.get("LAUNCHER_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), f"{path.relative_to(ROOT.parent.parent)} is missing; `make golden` writes it"
    assert text == path.read_text(encoding="utf-8")
