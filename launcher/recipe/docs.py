"""The one docstring per key: the string below each field, read from the source when someone asks."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import textwrap
from functools import cache
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from launcher.recipe import describe, trainer
from launcher.recipe.describe import key_of
from launcher.recipe.section import Section


@cache
def field_docs(section: type[Section]) -> dict[str, str]:
    """The docstring of each field, by the name of its key; a subclass's own stands before its base's."""
    found: dict[str, str] = {}
    for each in reversed([each for each in section.__mro__ if issubclass(each, Section) and each is not Section]):
        found.update(_own_docs(each))
    return {key_of(name, field): found.get(name, "") for name, field in section.model_fields.items()}


def _own_docs(section: type[Section]) -> dict[str, str]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    return {
        before.target.id: str(after.value.value).strip()
        for before, after in itertools.pairwise(body)
        if isinstance(before, ast.AnnAssign)
        and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }


def default_of(field: FieldInfo) -> Any:
    """The default as a recipe would write it; `PydanticUndefined` for a required key."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Section):
        return {}
    return list(value) if isinstance(value, tuple) else value


def default_words(field: FieldInfo) -> str:
    """The default in words."""
    value = default_of(field)
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_LIBRARY = {"peft": "LoraConfig", "quantization": "BitsAndBytesConfig", "training": "SFTConfig"}
_ALSO = {"data": "SFTConfig", "checkpoint": "SFTConfig", "evaluation": "SFTConfig"}


def library_default(key: str) -> tuple[str, Any] | None:
    """Where the library has the same key: its class and its default."""
    section, _, name = key.partition(".")
    owner = _LIBRARY.get(section) or _ALSO.get(section)
    if owner is None or name not in trainer.schema()[owner]:
        return None
    value = trainer.schema()[owner][name]
    return owner, value["default"] if owner == "SFTConfig" else value


def accepted(field: FieldInfo) -> str:
    """What the key accepts; `null` where that is a value of its own."""
    words = describe.expects(field)
    return f"{words}, or null" if describe.nullable(field.annotation) and field.default is not None else words
