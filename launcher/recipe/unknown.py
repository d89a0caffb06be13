"""Hints for keys that do not exist."""

from __future__ import annotations

from launcher.recipe import deprecated
from launcher.recipe.describe import keys_of
from launcher.recipe.nodes import Table, at
from launcher.recipe.ownership import owner_of
from launcher.recipe.schema_walk import Loc, known_part
from launcher.recipe.suggest import Suggestion, nearest, suggest
from launcher.text import quote

_SHOWN = 100


def unknown_key(tree: Table, loc: Loc) -> str:
    """What to write instead of the key at `loc`."""
    name = str(loc[-1])
    if suggestion := suggest(loc, at(tree, loc)):
        return _sentence(suggestion)
    near = nearest(name, loc)
    listed = keys_here(loc[:-1])
    return f"did you mean `{near}`? {listed}" if near else listed


def owned_key(tree: Table, name: str) -> tuple[str, str]:
    """The message and the hint for a field of SFTConfig in `training:` that something else decides."""
    owner, instead = owner_of(name) or ("plan", "remove it")
    loc = ("training", name)
    suggestion = suggest(loc, at(tree, loc))
    line = f"write {quote(suggestion.write, width=_SHOWN)}" if suggestion and suggestion.write else instead
    by = "`launcher plan` decides it" if owner == "plan" else f"it belongs to `{owner}`"
    if owner == "training":
        return deprecated.words_of(name), line
    return f"not set here, {by}", line


def keys_here(above: Loc) -> str:
    """The keys of the section at `above`, for a hint."""
    _, known = known_part(above)
    section = None if known.in_list else known.section
    where = f"`{'.'.join(str(part) for part in above)}`" if above else "a recipe"
    if section is None:
        return f"{where} is a list: each item starts with `- `"
    more = ", and most names of TRL's SFTConfig" if above == ("training",) else ""
    return f"Keys of {where}: {', '.join(keys_of(section))}{more}"


def _sentence(suggestion: Suggestion) -> str:
    if not suggestion.write:
        return f"{suggestion.reason}: {suggestion.note}"
    where = f" in an item of `data.{suggestion.item[1]}`" if suggestion.item else ""
    return f"{suggestion.reason}: write {quote(suggestion.write, width=_SHOWN)}{where}"
