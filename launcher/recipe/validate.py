"""From what was written to a `Recipe`: schema, trainer keys, contradictions, secrets; every fault together."""

from __future__ import annotations

import json
import re

from pydantic import ValidationError

from launcher.errors import RecipeError
from launcher.recipe import faults
from launcher.recipe.nodes import Table
from launcher.recipe.schema import Recipe
from launcher.recipe.schema_walk import values


def validate(tree: Table, *, default_name: str) -> tuple[Recipe | None, list[RecipeError]]:
    """The recipe, or None and every fault found in it."""
    written = values(tree, Recipe)
    written.setdefault("name", slug(default_name))
    try:
        return Recipe.model_validate_json(json.dumps(written)), []
    except ValidationError as error:
        return None, [fault for _, fault in faults.from_pydantic(error, tree)]


def slug(text: str) -> str:
    """A run name from a file's name: lower case, with `-` for everything a name may not hold."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:64]
