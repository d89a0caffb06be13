"""JSON Schema (draft 2020-12) of a recipe, for editors, from the same docstrings as everything else."""

from __future__ import annotations

from typing import Any

from launcher.recipe import docs, trainer
from launcher.recipe.describe import item_section_of, section_of
from launcher.recipe.schema import Recipe
from launcher.recipe.section import Section

_JSON_TYPES = {
    "text": "string",
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "mapping": "object",
    "list": "array",
    "null": "null",
}


def schema() -> dict[str, Any]:
    """The schema of a recipe file. A file with `extends` may leave out what its base has."""
    made = Recipe.model_json_schema(by_alias=True)
    found: list[tuple[type[Section], Any]] = [(Recipe, made)]
    found += [(each, made["$defs"][each.__name__]) for each in sections(Recipe)]
    for section, part in found:
        part["description"] = _first_paragraph(section)
        for key, text in docs.field_docs(section).items():
            part["properties"][key]["description"] = text
    training = made["$defs"]["Training"]
    training["properties"] |= {name: _trainer_key(field) for name, field in trainer.passed_on().items()}
    training["additionalProperties"] = False
    del made["required"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "launcher recipe",
        **{key: value for key, value in made.items() if key != "title"},
        "if": {"not": {"required": ["extends"]}},
        "then": {"required": ["model", "data"]},
    }


def sections(top: type[Section]) -> list[type[Section]]:
    """Every section below `top`, in the order of the file."""
    found: list[type[Section]] = []
    for field in top.model_fields.values():
        for each in (section_of(field.annotation), item_section_of(field.annotation)):
            if each is not None:
                found += [inner for inner in (each, *sections(each)) if inner not in found]
    return found


def _first_paragraph(section: type[Section]) -> str:
    return " ".join((section.__doc__ or "").split("\n\n")[0].split())


def _trainer_key(field: trainer.TrainerField) -> dict[str, Any]:
    types = [_JSON_TYPES[each] for each in field.types if each in _JSON_TYPES]
    made: dict[str, Any] = {
        "description": f"SFTConfig's own: {field.expects()}.",
        "type": types,
        "default": field.default,
    }
    if field.choices:
        made["enum"] = [*field.choices, None] if field.nullable else list(field.choices)
    limits = {
        "minimum": field.limits.ge,
        "exclusiveMinimum": field.limits.gt,
        "maximum": field.limits.le,
        "exclusiveMaximum": field.limits.lt,
    }
    return made | {name: value for name, value in limits.items() if value is not None}
