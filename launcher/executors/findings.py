"""What a doctor found: one line each, with the place of the key and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from launcher.errors import Place

Level = Literal["error", "warning", "ok"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `error`: it will not work; `warning`: it may surprise; `ok`: as it should be."""

    level: Level
    key: str
    message: str
    hint: str = ""
    place: Place | None = None

    @property
    def order(self) -> tuple[int, int, str]:
        """By line, as errors of a file are."""
        place = self.place or Place("")
        return place.line or 0, place.column or 0, self.key

    def __str__(self) -> str:
        return ": ".join(str(part) for part in (self.place, self.key, self.message) if part)

    def json(self) -> dict[str, Any]:
        """For `--json`."""
        place = self.place
        where = {"file": place.source, "line": place.line, "column": place.column} if place else {}
        return {"level": self.level, "key": self.key, "message": self.message, "hint": self.hint or None, **where}
