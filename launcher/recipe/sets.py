"""`--set KEY=VALUE`: change one key on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.errors import Place, RecipeError
from launcher.recipe import yaml
from launcher.recipe.nodes import Items, Node, Scalar, Table, is_null, label_of, position
from launcher.text import nearest_of, quote, redact


def shown(text: str) -> str:
    """How messages name one `--set`: on one line, without credentials."""
    return f"--set {quote(text, width=80)[1:-1]}"


def apply_sets(tree: Table, sets: Sequence[str]) -> tuple[Table, list[RecipeError]]:
    """The tree with every `--set` applied in order, and a fault for each that cannot be."""
    faults = []
    for text in sets:
        try:
            key, value = parse(text)
            tree = _put_in_table(tree, key.split("."), value, Place(shown(text)), key)
        except RecipeError as error:
            faults.append(error)
    return tree, faults


def parse(text: str) -> tuple[str, Node]:
    """The key and the value of `KEY=VALUE`; the value is read like a value in a recipe.

    Raises:
        RecipeError: there is no `=`, no key or no value, or the value is not strict YAML.
    """
    place = Place(shown(text))
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise RecipeError("needs KEY=VALUE", place=place, hint="for example `--set training.learning_rate=1e-4`")
    if key.partition(".")[0] == "extends":
        message = "bases are read before `--set` changes them"
        raise RecipeError(message, key=key, place=place, hint="write `extends` into the recipe")
    if not value.strip():
        raise RecipeError("has no value", key=key, place=place, hint=f"`--set {redact(key)}=null` removes a key")
    try:
        node = yaml.read_text(value, place.source)
    except RecipeError as error:
        raise RecipeError(
            error.message, key=".".join(filter(None, (key, error.key))), place=place, hint=error.hint
        ) from None
    return key, _placed(node, place)


def _placed(node: Node, place: Place) -> Node:
    match node:
        case Scalar():
            return Scalar(node.value, place, node.text, node.quoted)
        case Items():
            return Items(tuple(_placed(item, place) for item in node.items), place)
        case Table():
            entries = {key: _placed(child, place) for key, child in node.entries.items()}
            return Table(entries, dict.fromkeys(entries, place), place)


def _put(node: Node | None, parts: Sequence[str], value: Node, place: Place, key: str) -> Node:
    """`node` with `value` at the path `parts` below it."""
    if not parts:
        return value
    if isinstance(node, Items):
        return _put_in_list(node, parts, value, place, key)
    if isinstance(node, Scalar) and not is_null(node):
        raise RecipeError(f"{quote(node.text)} ({node.place}) has no key {quote(parts[0])}", key=key, place=place)
    return _put_in_table(node if isinstance(node, Table) else Table({}, {}, place), parts, value, place, key)


def _put_in_table(table: Table, parts: Sequence[str], value: Node, place: Place, key: str) -> Table:
    entries, keys = dict(table.entries), dict(table.keys)
    if len(parts) == 1 and is_null(value) and parts[0] in entries:
        del entries[parts[0]], keys[parts[0]]
    else:
        entries[parts[0]] = _put(entries.get(parts[0]), parts[1:], value, place, key)
        keys[parts[0]] = place if len(parts) == 1 else keys.get(parts[0], place)
    return Table(entries, keys, table.place)


def _put_in_list(items: Items, parts: Sequence[str], value: Node, place: Place, key: str) -> Node:
    index = position(items, parts[0])
    if index is None:
        names = [label_of(item) or str(number) for number, item in enumerate(items.items)]
        hint = nearest_of(parts[0], names, f"items: {', '.join(names)}" if names else "the list is empty")
        raise RecipeError(f"no item {quote(parts[0])} in this list", key=key, place=place, hint=hint)
    changed = _put(items.items[index], parts[1:], value, place, key)
    if len(parts) == 1 and is_null(value):
        return Items((*items.items[:index], *items.items[index + 1 :]), items.place)
    return Items((*items.items[:index], changed, *items.items[index + 1 :]), items.place)
