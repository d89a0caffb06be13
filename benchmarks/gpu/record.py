"""The result file: JSON lines, a head, one line per row as soon as it is known, and an end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SMOKE_NOTE = "smoke: tiny shapes on the CPU in float32, to see that the code runs; no figure of speed or memory in it"

START_AGAIN = 75
"""Exit code of the process that measures: a row failed or left memory behind, and the next deserves a fresh process."""


class Skipped(Exception):
    """A row that cannot be measured here; the text says why."""


@dataclass(frozen=True)
class Row:
    """One measurement: `run` returns its figures."""

    suite: str
    variant: str
    config: dict[str, Any]
    run: Callable[[], dict[str, Any]] = field(default=dict, repr=False)
    baseline: str | None = None
    """Variant of the same suite whose speed this one's is divided by."""


class Record:
    """A result file. Every line is on the disk before the next row starts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, head: dict[str, Any]) -> None:
        """Start the file anew."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("", encoding="utf-8")
        self._append({"kind": "head", **head})

    def plan(self, rows: Sequence[Row]) -> None:
        """What is going to be measured; written once."""
        named = [{"suite": row.suite, "variant": row.variant, "config": row.config} for row in rows]
        if not any(line["kind"] == "plan" for line in self._lines()):
            self._append({"kind": "plan", "rows": named})

    def add(self, row: Row, *, smoke: bool, seconds: float = 0.0, **outcome: Any) -> None:
        """One row: `result`, or `error`, or `skipped` with the reason."""
        line = {"kind": "row", "suite": row.suite, "variant": row.variant, "smoke": smoke, "seconds": round(seconds, 1)}
        self._append({**line, "config": row.config, **outcome})

    def end(self, **facts: Any) -> None:
        """The last line of a whole file."""
        self._append({"kind": "end", **facts})

    def rows(self) -> list[dict[str, Any]]:
        """What has been written."""
        return [line for line in self._lines() if line["kind"] == "row"]

    def missing(self) -> list[Row]:
        """What was planned and is not written yet, in order."""
        planned = [row for line in self._lines() if line["kind"] == "plan" for row in line["rows"]]
        return [Row(**row) for row in planned[len(self.rows()) :]]

    def result(self, suite: str, variant: str) -> dict[str, Any] | None:
        """The figures of an earlier row; None where there are none."""
        for row in self.rows():
            if (row["suite"], row["variant"]) == (suite, variant):
                return row.get("result")
        return None

    def _lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def _append(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
