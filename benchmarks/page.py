"""A dated result page: what was measured, on which machine, with which versions."""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from benchmarks.startup import installed, processor

VERSIONS = ("finetune-launcher", "torch", "transformers", "tokenizers", "trl", "datasets", "pyarrow", "numpy")


def write(folder: Path, name: str, lines: Sequence[str]) -> Path:
    """Write `DATE-name.md` with a title above the lines and the machine below them, and print it."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    text = "\n".join(
        [
            f"# {name.capitalize()}, {dt.datetime.now(dt.UTC):%Y-%m-%d}",
            "",
            *lines,
            "",
            f"Machine: {processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; load {load} at the end.",
            f"Python {platform.python_version()}; {', '.join(f'{each} {installed(each)}' for each in VERSIONS)}.",
        ]
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{dt.datetime.now(dt.UTC):%Y-%m-%d}-{name}.md"
    path.write_text(text + "\n", encoding="utf-8")
    print(text)
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return path
