"""pydantic's findings as sentences of ours: `KEY: needs WHAT, got VALUE`, with a hint that works."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError, create_model
from pydantic.fields import FieldInfo

from launcher.errors import Place, RecipeError
from launcher.recipe import describe, nodes
from launcher.recipe.nodes import Items, Node, Scalar, Table
from launcher.recipe.schema_walk import Known, dotted, known_part
from launcher.recipe.section import Section
from launcher.recipe.unknown import unknown_key
from launcher.text import did_you_mean, quote

Loc = tuple[str | int, ...]
_BOOLEANS = {
    "yes": "true",
    "on": "true",
    "y": "true",
    "1": "true",
    "no": "false",
    "off": "false",
    "n": "false",
    "0": "false",
}
_MISSING_HINTS = {
    "model": "add `model: {model_name_or_path: …}`, a hub id or a folder",
    "data": "add `data: {datasets: [{label: train, path: data.jsonl}]}`",
    "data.datasets": "add `datasets: [{label: train, path: data.jsonl}]`",
    "name": "add `name: …` (a-z, 0-9, `.`, `_`, `-`); the file's name holds none of these",
}


def from_pydantic(error: ValidationError, tree: Table) -> list[tuple[Loc, RecipeError]]:
    """One fault for each key that pydantic refused, with its location in plain values."""
    found: dict[Loc, RecipeError] = {}
    for each in error.errors(include_url=False, include_context=False):
        parts, known = known_part(each["loc"])
        if each["type"] == "extra_forbidden":
            loc = tuple(each["loc"])
            found.setdefault(loc, unknown(tree, loc[:-1], str(loc[-1]), known.section))
        elif tuple(parts) not in found:
            found[tuple(parts)] = _fault(tree, parts, known, missing=each["type"] == "missing")
    inner = [loc[:depth] for loc in found for depth in range(len(loc))]
    return [(loc, fault) for loc, fault in found.items() if loc not in inner]


def unknown(tree: Table, parents: Sequence[str | int], name: str, section: type[Section] | None) -> RecipeError:
    """A key that its section does not know."""
    above = dotted(tree, parents)
    key = f"{above}.{name}" if above else name
    node = nodes.find(tree, key)
    hint = unknown_key(name, above, section, node)
    return RecipeError("unknown key", key=key, place=nodes.key_place(tree, key), hint=hint)


def _fault(tree: Table, parts: Sequence[str | int], known: Known, *, missing: bool) -> RecipeError:
    key = dotted(tree, parts)
    node = nodes.find(tree, key)
    if missing or node is None:
        return _missing(tree, parts, known)
    place = node.place
    wanted = describe.expects(known.field) if known.field else _section_words(known.section)
    return RecipeError(f"needs {wanted}, got {seen(node)}", key=key, place=place, hint=hint_for(node, known, key))


def _missing(tree: Table, parts: Sequence[str | int], known: Known) -> RecipeError:
    key = dotted(tree, parts)
    hint = _MISSING_HINTS.get(key)
    if hint is None and known.field is not None:
        hint = f"add `{parts[-1]}`: {describe.expects(known.field)}"
    return RecipeError("missing", key=key, place=nearest_place(tree, key), hint=hint)


def _section_words(section: type[Section] | None) -> str:
    return f"a mapping ({', '.join(describe.keys_of(section))})" if section else "another value"


def nearest_place(tree: Table, key: str) -> Place:
    """Where a key's value was written; for a key that was not, the section around it, or the file."""
    node = nodes.find(tree, key) if key else None
    if node is not None:
        return node.place
    above = key
    while "." in above:
        above = above.rpartition(".")[0]
        if place := nodes.key_place(tree, above):
            return place
    return Place(tree.place.source)


def seen(node: Node) -> str:
    """The value as it was written, and what kind of value that is."""
    match node:
        case Scalar(value=None):
            return "null" if node.text else "nothing"
        case Scalar(value=bool()):
            return quote(node.text)
        case Scalar(value=int() | float()):
            return f"the number {quote(node.text)}"
        case Scalar():
            in_quotes = '"' if node.quoted else ""
            return f"the text {quote(in_quotes + node.text + in_quotes)}"
        case Items():
            return f"a list of {len(node.items)}"
        case Table():
            return f"a mapping ({quote(', '.join(node.entries))[1:-1]})"


def hint_for(node: Node, known: Known, key: str) -> str | None:
    """What to write instead, where it can be told from the value."""
    name = key.rpartition(".")[2]
    if known.field is None or not isinstance(node, Scalar):
        return _hint_for_group(node, known, name)
    accepted = describe.members(known.field.annotation)
    for reading in readings(node, accepted, known.field):
        if accepts(known.field, reading):
            return f"write `{name}: {written(reading)}`"
    near = did_you_mean(node.text, describe.choices(known.field.annotation))
    if near:
        return f"did you mean `{near}`?"
    return _section_hint(node, known, name)


def _hint_for_group(node: Node, known: Known, name: str) -> str | None:
    if known.in_list and isinstance(node, Table):
        return f"write `{name}: [{{…}}]`: each entry is an item of a list"
    if (
        isinstance(node, Items)
        and len(node.items) == 1
        and isinstance(node.items[0], Scalar)
        and known.field is not None
    ):
        only = node.items[0].value
        return f"write `{name}: {written(only)}`" if accepts(known.field, only) else None
    return None


def _section_hint(node: Scalar, known: Known, name: str) -> str | None:
    if known.section is None or known.in_list:
        return None
    if name == "model" and isinstance(node.value, str):
        return f"write `model: {{model_name_or_path: {node.text}}}`"
    return {
        "peft": "write `peft: {r: 16}` for LoRA, or remove the key for full fine-tuning",
        "quantization": "write `quantization: {load_in_4bit: true}`",
    }.get(name)


def readings(node: Scalar, accepted: Iterable[Any], field: FieldInfo) -> Iterable[Any]:
    """Other readings of a value, likeliest first; the caller checks which of them the key accepts."""
    text = node.text.strip()
    if bool in accepted and text.lower() in _BOOLEANS:
        yield _BOOLEANS[text.lower()] == "true"
    yield from _numbers(text)
    if isinstance(node.value, (int, float)):
        yield node.text
    if isinstance(node.value, str):
        yield [node.value]
        yield [part.strip() for part in text.split(",")]
        if text.lower() in ("none", "null"):
            yield None
            yield []
        yield text.lower()
    yield from (word for word in describe.choices(field.annotation) if word == text.lower())


def _numbers(text: str) -> Iterable[int | float]:
    cleaned = re.sub(r"(?<=[0-9])[_,' ](?=[0-9]{3}\b)", "", text.replace("_", "")).rstrip(",;")
    percent = cleaned.endswith("%")
    try:
        value = float(cleaned.rstrip("% ")) / (100 if percent else 1)
    except ValueError:
        return
    if abs(value) < 1e15 and value == int(value):
        yield int(value)
    if math.isfinite(value):
        yield value


def accepts(field: FieldInfo, value: Any) -> bool:
    """Whether the schema accepts `value` for a field that holds no section."""
    if describe.section_of(field.annotation) or describe.item_section_of(field.annotation):
        return False
    typed: Any = (field.annotation, FieldInfo.merge_field_infos(field, alias=None))
    probe = create_model("Probe", __base__=Section, value=typed)
    try:
        probe.model_validate_json(json.dumps({"value": value}))
    except ValidationError:
        return False
    return True


def written(value: Any) -> str:
    """A value as one writes it in a recipe."""
    if isinstance(value, list):
        return f"[{', '.join(written(each) for each in value)}]"
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_/][\w./-]*", value):
        return json.dumps(value, ensure_ascii=False)
    return value if isinstance(value, str) else json.dumps(value)
