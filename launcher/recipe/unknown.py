"""Hints for keys that do not exist."""

from __future__ import annotations

from launcher.recipe import deprecated
from launcher.recipe.describe import keys_of
from launcher.recipe.nodes import Table, at
from launcher.recipe.ownership import owner_of
from launcher.recipe.schema import Recipe
from launcher.recipe.schema_walk import Loc, known_part, leaves
from launcher.recipe.section import Section
from launcher.recipe.suggest import Suggestion, nearest, suggest
from launcher.text import did_you_mean, quote

_SHOWN = 100


def unknown_key(tree: Table, loc: Loc, root: type[Section] = Recipe) -> str:
    """What to write instead of the key at `loc`."""
    name = str(loc[-1])
    if root is not Recipe:
        return _of_another_root(name, loc, root)
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


def _of_another_root(name: str, loc: Loc, root: type[Section]) -> str:
    """The nearest key of the same section, else the section that has this key."""
    _, known = known_part(loc[:-1], root)
    listed = keys_here(loc[:-1], root)
    if near := did_you_mean(name, keys_of(known.section) if known.section else ()):
        return f"did you mean `{near}`? {listed}"
    homes = [key for key, _ in leaves(root) if key.rpartition(".")[2] == name]
    return f"`{name}` belongs in `{homes[0].rpartition('.')[0]}`" if homes and "." in homes[0] else listed


def keys_here(above: Loc, root: type[Section] = Recipe) -> str:
    """The keys of the section at `above`, for a hint."""
    _, known = known_part(above, root)
    section = None if known.in_list else known.section
    where = f"`{'.'.join(str(part) for part in above)}`" if above else f"a {root.__name__.strip('_').lower()}"
    if section is None:
        return f"{where} is a list: each item starts with `- `"
    more = ", and most names of TRL's SFTConfig" if above == ("training",) else ""
    return f"Keys of {where}: {', '.join(keys_of(section))}{more}"


def _sentence(suggestion: Suggestion) -> str:
    if not suggestion.write:
        return f"{suggestion.reason}: {suggestion.note}"
    where = f" in an item of `data.{suggestion.item[1]}`" if suggestion.item else ""
    return f"{suggestion.reason}: write {quote(suggestion.write, width=_SHOWN)}{where}"
