"""pydantic's findings as sentences of ours: `KEY: needs WHAT, got VALUE`, with a hint that works."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import ValidationError, create_model
from pydantic.fields import FieldInfo

from launcher.errors import RecipeError
from launcher.recipe import describe, scalars
from launcher.recipe.nodes import Items, Node, Scalar, Table, at, key_place, nearest_place
from launcher.recipe.schema import Recipe
from launcher.recipe.schema_walk import Known, Loc, dotted, known_part
from launcher.recipe.section import Section
from launcher.recipe.suggest import written
from launcher.recipe.unknown import unknown_key
from launcher.text import did_you_mean, quote

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
_TYPES = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32"}
"""Short names of number types."""
_MISSING_HINTS = {
    "model": "add `model: {model_name_or_path: …}`, a hub id or a folder",
    "data": "add `data: {datasets: [{label: train, path: data.jsonl}]}`",
    "data.datasets": "add `datasets: [{label: train, path: data.jsonl}]`",
    "name": "add `name: …` (a-z, 0-9, `.`, `_`, `-`); the file's name holds none of these",
}


def from_pydantic(error: ValidationError, tree: Table, root: type[Section] = Recipe) -> list[tuple[Loc, RecipeError]]:
    """One fault for each key that pydantic refused in a file of `root`, with its location in plain values."""
    found: dict[Loc, RecipeError] = {}
    for each in error.errors(include_url=False, include_context=False):
        parts, known = known_part(each["loc"], root)
        if each["type"] == "extra_forbidden":
            found[each["loc"]] = unknown(tree, each["loc"], root)
        elif parts not in found:
            found[parts] = _missing(tree, parts, known) if each["type"] == "missing" else _wrong(tree, parts, known)
    inner = {loc[:depth] for loc in found for depth in range(len(loc))}
    return [(loc, fault) for loc, fault in found.items() if loc not in inner]


def unknown(tree: Table, loc: Loc, root: type[Section] = Recipe) -> RecipeError:
    """A key that its section does not know."""
    hint = unknown_key(tree, loc, root)
    return RecipeError("unknown key", key=dotted(tree, loc), place=key_place(tree, loc), hint=hint)


def _wrong(tree: Table, parts: Loc, known: Known) -> RecipeError:
    key, node = dotted(tree, parts), at(tree, parts)
    if node is None:
        return _missing(tree, parts, known)
    wanted = describe.expects(known.field) if known.field else _section_words(known.section)
    return RecipeError(f"needs {wanted}, got {seen(node)}", key=key, place=node.place, hint=hint_for(node, known, key))


def _missing(tree: Table, parts: Loc, known: Known) -> RecipeError:
    key = dotted(tree, parts)
    hint = _MISSING_HINTS.get(key)
    if hint is None and known.field is not None:
        hint = f"add `{parts[-1]}`: {describe.expects(known.field)}"
    return RecipeError("missing", key=key, place=nearest_place(tree, parts), hint=hint)


def _section_words(section: type[Section] | None) -> str:
    return f"a mapping ({', '.join(describe.keys_of(section))})" if section else "another value"


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
            texts = [item.text for item in node.items if isinstance(item, Scalar)]
            listed = texts and len(texts) == len(node.items)
            return f"the list {quote('[' + ', '.join(texts) + ']')}" if listed else f"a list of {len(node.items)}"
        case Table():
            return f"a mapping ({quote(', '.join(node.entries))[1:-1]})" if node.entries else "an empty mapping"


def hint_for(node: Node, known: Known, key: str) -> str | None:
    """What to write instead, where it can be told from the value; else what leaving the key out means."""
    name = key.rpartition(".")[2]
    hint = _hint_for_scalar(node, known, name) if isinstance(node, Scalar) else _hint_for_group(node, known, name)
    return hint or _default_hint(known, key)


def _hint_for_scalar(node: Scalar, known: Known, name: str) -> str | None:
    if known.field is None:
        return None
    words = describe.choices(known.field.annotation)
    boolean = bool in describe.members(known.field.annotation)
    accepted = acceptance(known.field)
    for reading in readings(node, words, boolean=boolean):
        if accepted(reading):
            key = "" if name.isdigit() else f"{name}: "
            return f"write `{key}{as_written(node, reading)}`"
    near = did_you_mean(node.text, words)
    return f"did you mean `{near}`?" if near else _section_hint(node, known, name)


def _default_hint(known: Known, key: str) -> str | None:
    recipe = known.root is Recipe
    if key == "name" and recipe:
        return "leave it out for the file's name"
    if key.endswith(".weight") and recipe:  # left out of one source, it is missing beside the others
        return "write a number above 0, or remove the source"
    if known.field is None or known.section:
        return None
    if known.field.is_required():
        explained = re.sub(r"\.[0-9]+$", "", key)  # the list, of one of its items
        return f"`launcher explain {explained}` says what it takes" if recipe else None
    default = known.field.get_default(call_default_factory=True, validated_data={})
    return "leave it out" if default in (None, (), {}) else f"leave it out for the default, {written(default)}"


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
        return f"write `{name}: {written(only)}`" if acceptance(known.field)(only) else None
    return None


def _section_hint(node: Scalar, known: Known, name: str) -> str | None:
    if known.section is None or known.in_list:
        return None
    if name == "model" and isinstance(node.value, str):
        return f"write `model: {{model_name_or_path: {node.text}}}`"
    if known.root is not Recipe:
        return f"write `{name}: {{}}` for its defaults" if node.value is None else None
    return {
        "peft": "write `peft: {r: 16}` for LoRA, or remove the key for full fine-tuning",
        "quantization": "write `quantization: {load_in_4bit: true}`",
    }.get(name)


def readings(node: Scalar, choices: Iterable[str], *, boolean: bool) -> Iterable[Any]:
    """Other readings of a value, likeliest first; the caller checks which of them the key accepts."""
    text = node.text.strip()
    if boolean and text.lower() in _BOOLEANS:
        yield _BOOLEANS[text.lower()] == "true"
    if node.quoted:
        yield from _unquoted(text)
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
        yield re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:64]
        yield re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")[:64]
    yield from _times(text)
    if text.lower() in _TYPES:
        yield _TYPES[text.lower()]
    yield from (word for word in choices if word.lower() == text.lower())


def as_written(node: Scalar, reading: Any) -> str:
    """A reading as one writes it; a number keeps the spelling it has in quotes."""
    if isinstance(reading, float | int) and not isinstance(reading, bool):
        try:
            parsed = scalars.parse(node.text)
            return node.text if (type(parsed), parsed) == (type(reading), reading) else written(reading)
        except scalars.ScalarError:
            return written(reading)
    return written(reading)


def _unquoted(text: str) -> Iterable[Any]:
    with contextlib.suppress(scalars.ScalarError):
        yield scalars.parse(text)


def _times(text: str) -> Iterable[str]:
    """A time limit in minutes, as SLURM reads a plain number, or with its unit."""
    if found := re.fullmatch(r"([0-9]{1,5})\s*(d|days?|h|hours?|m|min|minutes?)?", text.strip()):
        minutes = int(found.group(1)) * {"d": 1440, "h": 60}.get((found.group(2) or "m")[0], 1)
        yield f"{minutes // 60:02d}:{minutes % 60:02d}:00"


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


def acceptance(field: FieldInfo) -> Callable[[Any], bool]:
    """Whether the schema accepts a value for a field that holds no section."""
    if describe.section_of(field.annotation) or describe.item_section_of(field.annotation):
        return lambda _: False
    typed: Any = (field.annotation, FieldInfo.merge_field_infos(field, alias=None))
    probe = create_model("Probe", __base__=Section, value=typed)

    def accepts(value: Any) -> bool:
        try:
            probe.model_validate_json(json.dumps({"value": value}))
        except ValidationError:
            return False
        return True

    return accepts
