"""Write `recipe/trainer_schema.json` from the installed TRL: `python -m launcher.worker.trainer_schema`.

The recipe side checks the `training:` section against that file, so that it never imports torch. A test
regenerates it and compares.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import json
import types
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

PATH = Path(__file__).parent.parent / "recipe" / "trainer_schema.json"
PACKAGES = ("peft", "transformers", "trl")
_WORDS = {str: "text", bool: "bool", int: "int", float: "float", dict: "mapping", list: "list", type(None): "null"}


def schema() -> dict[str, Any]:
    """Fields of SFTConfig with types, choices and defaults; defaults of LoraConfig and BitsAndBytesConfig; versions read."""
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig
    from trl import SFTConfig

    hints = get_type_hints(SFTConfig)
    return {
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "SFTConfig": {field.name: _field(field, hints[field.name]) for field in dataclasses.fields(SFTConfig)},
        "LoraConfig": {field.name: _default(field) for field in dataclasses.fields(LoraConfig)},
        "BitsAndBytesConfig": {
            parameter.name: parameter.default
            for parameter in inspect.signature(BitsAndBytesConfig).parameters.values()
            if parameter.default is not inspect.Parameter.empty
        },
    }


def text() -> str:
    """The schema as JSON, one name a line, so that a new version of TRL shows as a short difference."""
    sections = []
    for title, names in schema().items():
        lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(names[name])}" for name in sorted(names))
        sections.append(f"  {json.dumps(title)}: {{\n{lines}\n  }}")
    return "{\n" + ",\n".join(sections) + "\n}\n"


def _field(field: dataclasses.Field[Any], annotation: Any) -> dict[str, Any]:
    choices = _choices(annotation, field.metadata.get("choices"))
    found = {"types": sorted(set(_types(annotation))), "default": _default(field)}
    return {**found, "choices": choices} if choices else found


def _types(annotation: Any) -> Iterable[str]:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        for each in get_args(annotation):
            yield from _types(each)
    elif origin is Literal:
        yield from (_WORDS[type(each)] for each in get_args(annotation))
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        yield "text"
    else:
        yield _WORDS.get(origin or annotation, "object")


def _choices(annotation: Any, declared: Iterable[str] | None) -> list[str]:
    enums = [each for each in (annotation, *get_args(annotation)) if isinstance(each, type) and issubclass(each, Enum)]
    return sorted(declared) if declared else [member.value for each in enums for member in each]


def _default(field: dataclasses.Field[Any]) -> Any:
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    value = value.value if isinstance(value, Enum) else value
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else str(value)


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
