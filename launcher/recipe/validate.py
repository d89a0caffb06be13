"""From what was written to a `Recipe`: the schema, the trainer's keys, then what contradicts itself; all faults together."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from launcher.errors import RecipeError
from launcher.recipe.checks import contradictions
from launcher.recipe.nodes import Scalar, Table, at, plain
from launcher.recipe.places import check_names
from launcher.recipe.schema import Recipe
from launcher.recipe.schema_walk import Loc, values
from launcher.recipe.section import Section
from launcher.recipe.trainer import fits

Root = TypeVar("Root", bound=Section)
_STAND_INS: dict[str, Any] = {
    "model": {"model_name_or_path": "x"},
    "data": {"datasets": [{"label": "x", "path": "x"}]},
    "name": "x",
}
"""For a required section that is missing, so that the rest can still be looked at."""


def validate(tree: Table, *, default_name: str) -> tuple[Recipe | None, list[RecipeError]]:
    """The recipe, or None and every fault found in it."""
    written = values(tree, Recipe)
    written.setdefault("name", slug(default_name))
    found = dict(_trainer_faults(tree))
    found.update(_schema_faults(written, tree))
    found.update(_empty_sections(tree))
    recipe, replaced = repaired(written, list(found), Recipe, _STAND_INS)
    bad_keys = [*(".".join(map(str, loc)) for loc in found), *replaced]
    more = [fault.error(tree) for fault in contradictions(recipe) if not fault.touches(bad_keys)]
    errors = [*found.values(), *more, *check_names(tree)]
    return (None if errors else recipe), errors


def _schema_faults(written: dict[str, Any], tree: Table) -> list[tuple[Loc, RecipeError]]:
    """What pydantic finds, in our words."""
    try:
        Recipe.model_validate_json(json.dumps(written))
    except ValidationError as error:
        from launcher.recipe import faults

        return faults.from_pydantic(error, tree)
    return []


def _trainer_faults(tree: Table) -> list[tuple[Loc, RecipeError]]:
    """Keys of `training:` that are not the trainer's, belong elsewhere, or hold what the trainer does not accept."""
    section = at(tree, ("training",))
    entries = section.entries if isinstance(section, Table) else {}
    wrong = [name for name, node in entries.items() if not fits(name, plain(node))]
    if not wrong:
        return []
    from launcher.recipe.trainer_faults import training_fault

    return [(("training", name), training_fault(tree, name)) for name in wrong]


def _empty_sections(tree: Table) -> list[tuple[Loc, RecipeError]]:
    """Sections whose presence means something, left empty: it could mean the defaults, or none."""
    found: list[tuple[Loc, RecipeError]] = []
    for name in ("quantization", "peft", "sweep"):
        node = tree.entries.get(name)
        if isinstance(node, Scalar) and node.value is None and not node.text:
            hint = f"write `{name}: null` for none, or keys below it"
            found.append(((name,), RecipeError("is empty", key=name, place=tree.keys[name], hint=hint)))
    return found


def repaired(
    written: dict[str, Any], bad: list[Loc], root: type[Root], stand_ins: Mapping[str, Any]
) -> tuple[Root, list[str]]:
    """What was written without the values at fault, with stand-ins for what is then missing, and the keys replaced so."""
    kept: dict[str, Any] = json.loads(json.dumps(written))
    replaced: list[str] = []
    for loc in bad:
        _drop(kept, loc)
    while True:
        try:
            return root.model_validate_json(json.dumps(kept)), replaced
        except ValidationError as error:
            top = str(error.errors()[0]["loc"][0])
            replaced.append(top)
            kept.pop(top, None)
            if top in stand_ins:
                kept[top] = stand_ins[top]


def _drop(values: Any, loc: Loc) -> None:
    while len(loc) > 1 and isinstance(loc[-1], int):  # of a list with a wrong item nothing is left
        loc = loc[:-1]
    for part in loc[:-1]:
        if isinstance(values, list) and isinstance(part, int):
            values = values[part]
        else:
            values = values.get(part) if isinstance(values, dict) else None
    if isinstance(values, dict):
        values.pop(loc[-1], None)


def slug(text: str) -> str:
    """A run name from a file's name: lower case, with `-` for everything a name may not hold."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:64]
