"""Chat templates that TRL trains with a copy of: `training_templates.json`, written from the installed TRL."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("training_templates.json")


@cache
def training_templates() -> dict[str, str]:
    """sha256 of a template's text → TRL's name for it."""
    return dict(json.loads(_FILE.read_text(encoding="utf-8")))
