"""Model configurations that recipes name, so that they plan offline: `models/*.json`, each with its source."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).with_name("models")


@cache
def known_models() -> dict[str, dict[str, Any]]:
    """Hub id → its `config.json`."""
    entries = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(_FOLDER.glob("*.json")))
    return {entry["name"]: entry["config"] for entry in entries}
