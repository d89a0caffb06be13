"""What to write instead of a key that its section does not know, as text that a recipe accepts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from launcher.recipe import yaml
from launcher.recipe.describe import keys_of
from launcher.recipe.dialect import Row
from launcher.recipe.dialects import ITEM_ROWS, ROWS
from launcher.recipe.nodes import Node, plain
from launcher.recipe.ownership import owner_of
from launcher.recipe.schema import Recipe
from launcher.recipe.schema_walk import Loc, known_part, leaves
from launcher.recipe.trainer import fits, passed_on
from launcher.text import did_you_mean

_LISTS = ("datasets", "eval_datasets")


@dataclass(frozen=True)
class Suggestion:
    """What replaces a key: `template` in flow YAML, at the top of the recipe or in the item at `item`; or only a note.

    VALUE in the template stands for `value`.
    """

    reason: str
    template: str = ""
    value: Any = None
    item: Loc | None = None
    note: str = ""

    @property
    def write(self) -> str:
        """The line to write, in flow YAML; empty where there is only a note."""
        return fill(self.template, self.value)


def suggest(loc: Loc, node: Node | None) -> Suggestion | None:
    """The replacement for the key at `loc` by its name: another tool's name, or a key of another section."""
    name = str(loc[-1])
    value = plain(node) if node is not None else None
    in_item = len(loc) == 4 and loc[0] == "data" and loc[1] in _LISTS
    row = (ITEM_ROWS.get(name) if in_item else None) or ROWS.get(name) or ROWS.get(name.replace("-", "_"))
    if row:
        return _from_row(name, row, value, loc[:3] if in_item else None)
    return _elsewhere(name, value)


def _from_row(name: str, row: Row, value: Any, item: Loc | None) -> Suggestion:
    reason = f"`{name}` is a name of {row.tools}"
    if value is None:
        return Suggestion(reason, note="remove it: it is empty")
    if template := _choose(row.write, value):
        return _filled(reason, template, value, None)
    if template := _choose(row.item, value):
        return _filled(reason, template, value, item or ("data", "datasets", 0))
    return Suggestion(reason, note=row.note or _values(row))


def _filled(reason: str, template: str, value: Any, item: Loc | None) -> Suggestion:
    """The suggestion with the first reading of the value that the schema accepts there; else only its shape."""
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return Suggestion(reason, template, value, item)  # a whole list moves; its items are judged where they arrive
    parts = [each.strip() for each in value.split(",")] if isinstance(value, str) else value
    for each in (parts, value) if isinstance(parts, list) and len(parts) > 1 else (value,):
        if _accepted(fill(template, each), item):
            return Suggestion(reason, template, each, item)
    where = " in an item of `data.datasets`" if item else ""
    return Suggestion(reason, note=f"write `{re.sub('VALUE', '…', template)}`{where}")


def _accepted(line: str, item: Loc | None) -> bool:
    """Whether a recipe with this line in it has the right keys and types."""
    written = plain(yaml.read_text(f"{{{line}}}", "suggestion"))
    source = {"label": "x", "path": "x", **(written if item else {})}
    recipe: dict[str, Any] = {"name": "x", "model": {"model_name_or_path": "x"}, "data": {"datasets": [source]}}
    for section, keys in ({} if item else written).items():
        recipe[section] = {**recipe.get(section, {}), **keys} if isinstance(keys, dict) else keys
    training = recipe.get("training", {})
    try:
        Recipe.model_validate_json(json.dumps(recipe))
    except ValueError:
        return False
    return all(fits(name, value) for name, value in training.items()) if isinstance(training, dict) else False


def _values(row: Row) -> str:
    return f"values that have a counterpart here: {', '.join({**_table(row.write), **_table(row.item)})}"


def _table(write: str | dict[str, str]) -> dict[str, str]:
    return write if isinstance(write, dict) else {}


def _choose(write: str | dict[str, str], value: Any) -> str:
    if isinstance(write, str):
        return write
    return write.get(_word(value), write.get("*", ""))


def _word(value: Any) -> str:
    return value.lower() if isinstance(value, str) else json.dumps(value)


def fill(template: str, value: Any) -> str:
    """The template with VALUE replaced by the value, in flow YAML."""
    return re.sub(r"\bVALUE\b", lambda _: written(value), template)


def written(value: Any) -> str:
    """A value as one writes it in a recipe."""
    if isinstance(value, list):
        return f"[{', '.join(written(each) for each in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{written(key)}: {written(each)}' for key, each in value.items())}}}"
    if isinstance(value, str) and (not re.fullmatch(r"[A-Za-z_/][\w./-]*", value) or value.lower() in _WORDS):
        return json.dumps(value, ensure_ascii=False)
    return value if isinstance(value, str) else json.dumps(value)


_WORDS = ("true", "false", "null")


@cache
def homes() -> dict[str, tuple[str, ...]]:
    """Dotted keys of the whole language by their last part, the shallowest first; list items are left out."""
    found: dict[str, list[str]] = {}
    trainer = [f"training.{name}" for name in passed_on()]
    for key in [*(key for key, _ in leaves(Recipe) if "[]" not in key), *trainer]:
        found.setdefault(key.rpartition(".")[2], []).append(key)
    order = list(keys_of(Recipe))
    first = {name: -1 if name == "training" else order.index(name) for name in order}
    return {
        name: tuple(sorted(keys, key=lambda key: (key.count("."), first[key.partition(".")[0]])))
        for name, keys in found.items()
    }


def nest(key: str, value: str) -> str:
    """`a.b.c` with a value, as flow YAML at the top of a recipe: `a: {b: {c: value}}`."""
    *sections, last = key.split(".")
    inner = f"{last}: {value}"
    for section in reversed(sections):
        inner = f"{section}: {{{inner}}}"
    return inner


def _elsewhere(name: str, value: Any) -> Suggestion | None:
    """The same name as a key of another section, or a dotted key written in one piece."""
    if "." in name and len(known_part(name.split("."))[0]) == len(name.split(".")):
        return _filled("sections are nested", nest(name, "VALUE"), value, None)
    keys = homes().get(name, ())
    if not keys:
        owned = owner_of(name)
        return Suggestion(f"`{name}` is a name of SFTConfig", note=owned[1]) if owned else None
    section = keys[0].rpartition(".")[0]
    reason = f"`{name}` belongs in `{section}`" if section else f"`{name}` stands at the top"
    return _filled(reason, nest(keys[0], "VALUE"), value, None)


def nearest(name: str, loc: Loc) -> str | None:
    """The key most like `name`: of the same section, else of another, dotted; None when nothing is near."""
    _, known = known_part(loc[:-1])
    here = list(keys_of(known.section)) if known.section and not known.in_list else []
    if loc[:-1] == ("training",):
        here += list(passed_on())
    if near := did_you_mean(name, here):
        return near
    far = did_you_mean(name, homes(), cutoff=0.75)
    return homes()[far][0] if far else None
