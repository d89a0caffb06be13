"""One row of the tables of names that other tools use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One name: the tools that use it, an example value, and what to write instead."""

    tools: str
    example: Any
    write: str | dict[str, str] = field(default_factory=dict)
    item: str | dict[str, str] = field(default_factory=dict)
    note: str = ""


AXOLOTL, FACTORY, UNSLOTH, TRL = "axolotl", "LLaMA-Factory", "Unsloth", "TRL"
OLD = "older transformers"
