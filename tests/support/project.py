"""A small project used as a person uses it: a folder with a model, data and a recipe, and the `launcher` command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support import tiny


def made(folder: Path, recipe: str, *, rows: int) -> Path:
    """`model/`, `sums.jsonl` with so many rows, and `sums.yaml`; returns the folder."""
    tiny.model(folder / "model")
    tiny.jsonl(folder / "sums.jsonl", tiny.words(rows))
    (folder / "sums.yaml").write_text(recipe)
    return folder


def launcher(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; `env` is added to the environment."""
    return subprocess.run(
        _command(arguments), cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=300, check=False
    )  # fmt: skip


def begun(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    """The command, still running."""
    return subprocess.Popen(_command(arguments), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _command(arguments: tuple[object, ...]) -> list[str]:
    return [sys.executable, "-m", "launcher", *map(str, arguments)]
