"""The schema and what was written, walked side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from launcher.recipe.describe import entry_of, item_of, item_section_of, keys_of, nullable, section_of
from launcher.recipe.nodes import Items, Node, Table, is_null, label_of, plain
from launcher.recipe.schema import Recipe
from launcher.recipe.section import Section
from launcher.recipe.trainer import passed_on
from launcher.recipe.training import Training

Loc = tuple[str | int, ...]
"""A path of keys and list indices from the top of a file."""


@dataclass(frozen=True)
class Known:
    """What the schema says about one dotted key: its field, or the section that it is."""

    field: FieldInfo | None
    section: type[Section] | None
    in_list: bool = False
    root: type[Section] = Recipe
    """The section at the top of the file."""


def values(node: Table, section: type[Section]) -> dict[str, Any]:
    """The mapping as plain values for pydantic; null stands for absent where null is no value of its own."""
    fields = keys_of(section)
    return {
        key: _value(child, fields.get(key))
        for key, child in node.entries.items()
        if not (is_null(child) and _drops_null(section, key))
    }


def _drops_null(section: type[Section], key: str) -> bool:
    field = keys_of(section).get(key)
    if field is not None:
        return not nullable(field.annotation)
    return section is Training and key in passed_on() and not passed_on()[key].nullable


def _value(node: Node, field: FieldInfo | None) -> Any:
    section = section_of(field.annotation) if field else None
    if section and isinstance(node, Table):
        return values(node, section)
    item = item_section_of(field.annotation) if field else None
    if item and isinstance(node, Items):
        return [values(each, item) if isinstance(each, Table) else plain(each) for each in node.items]
    entry = entry_of(field.annotation) if field else None
    if entry and isinstance(node, Table):
        return {key: _value(below, entry) for key, below in node.entries.items()}
    return plain(node)


def known_part(loc: Sequence[str | int], root: type[Section] = Recipe) -> tuple[Loc, Known]:
    """The longest beginning of a pydantic location that names a key of `root`, and what is known about it."""
    parts: list[str | int] = []
    known = Known(None, root, root=root)
    for part in loc:
        if known.in_list and known.field is not None and isinstance(part, int):
            known = Known(None, item_section_of(known.field.annotation), root=root)
        elif known.section and not known.in_list and part in keys_of(known.section):
            field = keys_of(known.section)[str(part)]
            items = item_section_of(field.annotation)
            known = Known(field, items or section_of(field.annotation), in_list=items is not None, root=root)
        elif known.field is not None and isinstance(part, int) and (item := item_of(known.field.annotation)):
            known = Known(item, None, root=root)
        elif known.field is not None and not known.section and (entry := entry_of(known.field.annotation)):
            known = Known(entry, section_of(entry.annotation), root=root)
        else:
            break
        parts.append(part)
    return tuple(parts), known


def unknown_locs(tree: Table) -> list[Loc]:
    """Every key that its section does not know, in the order they were written."""
    return list(_unknown(tree, Recipe, ()))


def _unknown(node: Node, section: type[Section], loc: Loc) -> Iterator[Loc]:
    entries = node.entries if isinstance(node, Table) else {}
    for key, below in entries.items():
        field = keys_of(section).get(key)
        if field is None:
            if not (section is Training and key in passed_on()):
                yield (*loc, key)
            continue
        inner, items = section_of(field.annotation), item_section_of(field.annotation)
        if inner:
            yield from _unknown(below, inner, (*loc, key))
        elif items and isinstance(below, Items):
            for number, item in enumerate(below.items):
                yield from _unknown(item, items, (*loc, key, number))


def dotted(tree: Table, parts: Sequence[str | int]) -> str:
    """The key as messages show it: list items by their label where they have one of their own."""
    node: Node | None = tree
    shown: list[str] = []
    for part in parts:
        if isinstance(node, Items) and isinstance(part, int):
            shown.append(_item_name(node, part))
            node = node.items[part] if part < len(node.items) else None
        else:
            shown.append(str(part))
            node = node.entries.get(str(part)) if isinstance(node, Table) else None
    return ".".join(shown)


def _item_name(items: Items, index: int) -> str:
    labels = [label_of(item) for item in items.items]
    label = labels[index] if index < len(labels) else None
    return label if label and "." not in label and labels.count(label) == 1 else str(index)


def leaves(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of a section and of the sections in it, dotted; list items as `[]`, entries by name as `NAME`."""
    for key, field in keys_of(section).items():
        full = f"{prefix}{key}"
        yield full, field
        below, items = section_of(field.annotation), item_section_of(field.annotation)
        if below:
            yield from leaves(below, f"{full}.")
        elif items:
            yield from leaves(items, f"{full}[].")
        elif (entry := entry_of(field.annotation)) and (named := section_of(entry.annotation)):
            yield from leaves(named, f"{full}.NAME.")
