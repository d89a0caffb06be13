"""What transformers' causal language models cannot do, by model type: `lacking.json`, held to the installed version by a test."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Literal

Ability = Literal["sdpa", "flash", "flex", "activation_checkpointing"]
_FILE = Path(__file__).with_name("lacking.json")


def lacks(model_type: str | None, ability: Ability) -> bool:
    """Whether transformers refuses it for this type. False for a type that it does not know, or only with its own code."""
    return model_type in _rows()[ability]


@cache
def _rows() -> dict[str, frozenset[str]]:
    rows = json.loads(_FILE.read_text(encoding="utf-8"))
    return {ability: frozenset(types) for ability, types in rows.items() if ability != "source"}
