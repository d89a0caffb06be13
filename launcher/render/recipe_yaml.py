"""The resolved recipe as YAML that reads back as the same values."""

from __future__ import annotations

from typing import Any

import yaml

from launcher.plan.types import Plan


def recipe_yaml(plan: Plan) -> str:
    """The whole recipe with every default filled in and nothing left `auto`; relative paths are as they were written."""
    head = f"# The whole recipe of {plan.name}: every default filled in, every `auto` decided (launcher {plan.launcher_version}).\n"
    return head + yaml.dump(plan.recipe, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.CSafeDumper):
    """Short lists on one line; floats that YAML 1.2 reads as floats."""


def _float(dumper: Any, value: float) -> Any:
    text = repr(value)
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e", 1)
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


def _list(dumper: Any, values: list[Any]) -> Any:
    flow = all(not isinstance(value, dict | list) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flow)


def _text(dumper: Any, value: str) -> Any:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(float, _float)
_Dumper.add_representer(list, _list)
_Dumper.add_representer(str, _text)
