"""Hints for keys that do not exist: the nearest key here, or the section it belongs in."""

from __future__ import annotations

from launcher.recipe.describe import keys_of
from launcher.recipe.nodes import Node
from launcher.recipe.section import Section
from launcher.text import did_you_mean


def unknown_key(name: str, above: str, section: type[Section] | None, node: Node | None) -> str:
    """What to write instead of an unknown key `name` in the section at `above`."""
    keys = list(keys_of(section)) if section else []
    where = f"`{above}`" if above else "a recipe"
    near = did_you_mean(name, keys)
    listed = f"Keys of {where}: {', '.join(keys)}"
    return f"did you mean `{near}`? {listed}" if near else listed
