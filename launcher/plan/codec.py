"""`plan.json`: a plan as text and back. The same plan gives the same bytes; their hash is the plan's name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from launcher.errors import EnvironmentFault
from launcher.plan.types import SCHEMA, Plan


def dumps(plan: Plan) -> str:
    """The plan as JSON text, fields in the order of their types."""
    return json.dumps(asdict(plan), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def loads(text: str) -> Plan:
    """The plan that `dumps` wrote.

    Raises:
        EnvironmentFault: the text is no plan, or one that another version of launcher wrote.
    """
    try:
        values = json.loads(text)
    except ValueError as fault:
        raise EnvironmentFault(f"plan.json is not JSON ({fault})", hint="render the recipe again") from None
    schema = values.get("schema") if isinstance(values, dict) else None
    if schema != SCHEMA:
        raise EnvironmentFault(
            f"plan.json has schema {schema!r}, this launcher reads {SCHEMA}",
            hint="use the launcher version that wrote it, or start a new run",
        )
    try:
        return cast("Plan", _build(Plan, values))
    except (KeyError, TypeError, AttributeError) as fault:
        raise EnvironmentFault(f"plan.json is damaged ({fault})", hint="render the recipe again") from None


def digest(plan: Plan) -> str:
    """sha256 of the plan's text."""
    return hashlib.sha256(dumps(plan).encode()).hexdigest()


def _build(kind: Any, value: Any) -> Any:
    """`value` as the type `kind`: dataclasses and tuples inside JSON's objects and lists."""
    if get_origin(kind) in (Union, UnionType):
        if value is None:
            return None
        kind = next(option for option in get_args(kind) if option is not type(None))
    if is_dataclass(kind):
        return _build_fields(kind, value)
    if get_origin(kind) in (dict, Mapping):
        return {name: _build(get_args(kind)[1], item) for name, item in value.items()}
    if get_origin(kind) is tuple:
        return tuple(_build(get_args(kind)[0], item) for item in value)
    return value


def _build_fields(kind: Any, values: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    unknown = set(values) - {field.name for field in fields(kind)}
    if unknown:
        raise KeyError(f"unknown field {min(unknown)}")
    return kind(**{name: _build(hints[name], value) for name, value in values.items()})
