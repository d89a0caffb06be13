"""The schema's style, and the pages, defaults and JSON Schema made from it."""

import json
import typing
from pathlib import Path

import jsonschema
import pytest
import yaml as pyyaml

from launcher.recipe import docs, reference
from launcher.recipe.defaults import DIFFERENCES
from launcher.recipe.describe import key_of
from launcher.recipe.json_schema import schema, sections
from launcher.recipe.load import problems
from launcher.recipe.schema import Recipe
from launcher.recipe.shipped import shipped
from tests.recipe.writing import FULL, SHORT, write

SECTIONS = [Recipe, *sections(Recipe)]
SCHEMA = schema()


@pytest.mark.parametrize("section", SECTIONS, ids=lambda each: each.__name__)
def test_every_section_and_field_has_its_docstring(section):
    """It is the text of errors, of `explain`, of the schema and of the reference."""
    assert section.__doc__
    for key, text in docs.field_docs(section).items():
        assert text.endswith("."), f"{section.__name__}.{key}: {text!r}"
        assert len(text) > 10


@pytest.mark.parametrize("section", SECTIONS, ids=lambda each: each.__name__)
def test_sections_are_frozen_closed_and_hold_nothing_that_changes(section):
    """Sequences are tuples; free mappings hold what a library takes."""
    assert section.model_config["frozen"]
    assert section.model_config["strict"]
    assert section.model_config["extra"] == ("allow" if section.__name__ == "Training" else "forbid")
    for name, field in section.model_fields.items():
        assert not _holds(field.annotation, (list, set)), f"{section.__name__}.{name}"


def _holds(annotation, kinds):
    origin = typing.get_origin(annotation) or annotation
    return origin in kinds or any(_holds(each, kinds) for each in typing.get_args(annotation))


def test_the_table_of_defaults_is_complete_and_true():
    """Both columns are the real ones, and no difference is missing."""
    real = {}
    for section, model in ((name, field.annotation) for name, field in Recipe.model_fields.items()):
        for each in [part for part in (model, *typing.get_args(model)) if part in SECTIONS]:
            for name, field in each.model_fields.items():
                key = f"{section}.{key_of(name, field)}"
                library = docs.library_default(key)
                ours = field.get_default(call_default_factory=True, validated_data={})
                if library and ours != library[1] and not (library[1] is None and ours in ((), {})):
                    real[key] = (ours, *library)
    listed = {each.key: (each.ours, each.library, each.theirs) for each in DIFFERENCES}
    assert listed == real
    assert all(each.reason.endswith(".") for each in DIFFERENCES)


@pytest.mark.parametrize("name", list(reference.pages()))
def test_the_reference_is_current(name):
    """`python -m launcher.recipe.reference` writes these pages; the difference is read before it is committed."""
    assert (reference.FOLDER / name).read_text(encoding="utf-8") == reference.pages()[name]


def test_the_reference_has_every_key():
    """A key that is not on the page does not exist for its reader."""
    page = reference.pages()["recipe.md"]
    for section in SECTIONS:
        for key in docs.field_docs(section):
            assert f"| `{key}` |" in page


def test_the_json_schema_is_a_schema():
    """By its own draft."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize("path", sorted(shipped("recipes").rglob("*.yaml")), ids=lambda path: path.name)
def test_the_json_schema_accepts_what_we_ship(path):
    """An editor shows no error in our own recipes; bases lack a model and are read as such."""
    recipe = _core_schema(path)
    if path.parent.name == "base":
        recipe.setdefault("extends", "x")
    jsonschema.validate(recipe, SCHEMA)


def _core_schema(path: Path):
    from launcher.recipe import yaml
    from launcher.recipe.nodes import plain

    recipe = plain(yaml.read(path.read_bytes(), path.name))
    assert pyyaml.safe_load(path.read_text(encoding="utf-8")).keys() == recipe.keys()
    return {key: value for key, value in recipe.items() if value is not None}


def test_the_json_schema_accepts_a_full_recipe():
    """Every section at once."""
    jsonschema.validate(FULL, SCHEMA)


@pytest.mark.parametrize(
    "change",
    [
        {"trainig": {}},
        {"peft": {"lora_aplha": 1}},
        {"peft": {"r": 0}},
        {"peft": {"bias": "some"}},
        {"training": {"weight_decay": -1}},
        {"training": {"learning_rat": 1}},
        {"training": {"packing": True}},
        {"training": {"log_level": "loud"}},
        {"name": "../x"},
        {"data": {"datasets": []}},
        {"data": {"datasets": [{"path": "x"}]}},
        {"model": None},
        {"launch": {"time_limit": "12h"}},
    ],
)
def test_the_json_schema_refuses_what_we_refuse(tmp_path, change):
    """An editor marks the same mistakes, and ours agrees that they are."""
    recipe = {**FULL, **change}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(recipe, SCHEMA)
    assert problems(write(tmp_path, json.dumps(recipe)))


def test_the_json_schema_wants_a_model_and_data_unless_a_base_may_have_them():
    """A file with `extends` may leave both to its base."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "x"}, SCHEMA)
    jsonschema.validate({"extends": "x.yaml"}, SCHEMA)


def test_descriptions_are_the_docstrings():
    """One text for a key, wherever it is read."""
    rank = SCHEMA["$defs"]["Peft"]["properties"]["r"]["description"]
    assert rank.startswith("Rank of each update")
    assert rank in reference.pages()["recipe.md"]


def test_a_short_recipe_is_short(tmp_path):
    """Two lines are enough for both."""
    assert not problems(write(tmp_path, SHORT))
    jsonschema.validate(pyyaml.safe_load(SHORT), SCHEMA)
