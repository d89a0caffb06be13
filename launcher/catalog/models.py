"""Model configurations that are often fine-tuned, so that they plan offline: `models.json`, each with its source."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("models.json")


@cache
def known_models() -> dict[str, dict[str, Any]]:
    """Hub id → its `config.json`, as far as sizes, attention and context go. An id of `also` has the same."""
    entries = json.loads(_FILE.read_text(encoding="utf-8"))
    return {name: entry["config"] for entry in entries for name in (entry["name"], *entry.get("also", ()))}
