"""A recipe as it was written: values with the place of each, before any meaning is given to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.errors import Place


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value; `text` is what stood in the file and `quoted` whether it stood in quotes."""

    value: str | int | float | bool | None
    place: Place
    text: str
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Node, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping from text to nodes; `keys` holds the place of each key."""

    entries: dict[str, Node]
    keys: dict[str, Place]
    place: Place


Node = Scalar | Items | Table


def is_null(node: Node | None) -> bool:
    """Whether the node is an explicit or empty null."""
    return isinstance(node, Scalar) and node.value is None


def plain(node: Node) -> Any:
    """The node as dicts, lists and values."""
    match node:
        case Scalar():
            return node.value
        case Items():
            return [plain(item) for item in node.items]
        case Table():
            return {key: plain(child) for key, child in node.entries.items()}


def label_of(node: Node) -> str | None:
    """The `label` of a list item, when it has one."""
    label = node.entries.get("label") if isinstance(node, Table) else None
    return label.value if isinstance(label, Scalar) and isinstance(label.value, str) else None


def position(items: Items, part: str) -> int | None:
    """Index of the list item that `part` names by its label, or by its number."""
    labels = [label_of(item) for item in items.items]
    if part in labels:
        return labels.index(part)
    return int(part) if part.isascii() and part.isdigit() and int(part) < len(labels) else None


def child(node: Node | None, part: str) -> Node | None:
    """The entry or list item that `part` names."""
    match node:
        case Table():
            return node.entries.get(part)
        case Items():
            index = position(node, part)
            return None if index is None else node.items[index]
    return None


def find(root: Node, key: str) -> Node | None:
    """The node at a dotted key."""
    node: Node | None = root
    for part in key.split("."):
        node = child(node, part)
    return node


def at(root: Node, parts: Sequence[str | int]) -> Node | None:
    """The node at a path of keys and list indices."""
    node: Node | None = root
    for part in parts:
        if isinstance(node, Items) and isinstance(part, int):
            node = node.items[part] if part < len(node.items) else None
        else:
            node = node.entries.get(str(part)) if isinstance(node, Table) else None
    return node


def key_place(root: Node, parts: Sequence[str | int]) -> Place | None:
    """Where the key itself was written; for a list item, where the item starts."""
    parent = at(root, parts[:-1])
    if isinstance(parent, Table):
        return parent.keys.get(str(parts[-1]))
    found = at(root, parts)
    return found.place if found else None


def path(root: Node, key: str) -> list[str | int]:
    """The path that a dotted key names, as far as it was written; list items by label or number."""
    node: Node | None = root
    parts: list[str | int] = []
    for part in key.split("."):
        index = position(node, part) if isinstance(node, Items) else None
        node = child(node, part)
        if node is None:
            break
        parts.append(part if index is None else index)
    return parts


def nearest_place(tree: Table, parts: Sequence[str | int]) -> Place:
    """Where a value was written; for one that was not, the key of the section around it, or the file."""
    if (node := at(tree, parts)) is not None and parts:
        return node.place
    for depth in range(len(parts) - 1, 0, -1):
        if place := key_place(tree, parts[:depth]):
            return place
    return tree.place


def place_of(tree: Table, key: str) -> Place:
    """The nearest place that was written for a dotted key: its value, the section around it, or the file."""
    parts = path(tree, key)
    whole = at(tree, parts)
    if whole is not None and len(parts) == len(key.split(".")):
        return whole.place
    return (key_place(tree, parts) if parts else None) or tree.place


def walk(node: Node, key: str = "") -> Iterator[tuple[str, Node]]:
    """Every node below with its dotted key, in the order they were written; list items by number."""
    match node:
        case Table():
            pairs = list(node.entries.items())
        case Items():
            pairs = [(str(number), item) for number, item in enumerate(node.items)]
        case Scalar():
            pairs = []
    for part, below in pairs:
        dotted = f"{key}.{part}" if key else part
        yield dotted, below
        yield from walk(below, dotted)


def merge(base: Node, over: Node) -> Node:
    """`over` laid on `base`: mappings merge, lists and values replace."""
    return merge_tables(base, over) if isinstance(base, Table) and isinstance(over, Table) else over


def merge_tables(base: Table, over: Table) -> Table:
    """The entries of both, those of `over` winning; null deletes."""
    entries, keys = dict(base.entries), dict(base.keys)
    for key, node in over.entries.items():
        if key in base.entries and is_null(node):
            del entries[key], keys[key]
            continue
        entries[key] = merge(base.entries[key], node) if key in base.entries else node
        keys[key] = over.keys[key]
    return Table(entries, keys, over.place)


def without(table: Table, *names: str) -> Table:
    """The mapping without some of its keys."""
    kept = {key: node for key, node in table.entries.items() if key not in names}
    return Table(kept, {key: table.keys[key] for key in kept}, table.place)
