"""What a key accepts, in words: the same words in errors, in `launcher explain` and in the reference."""

from __future__ import annotations

import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from launcher.recipe.patterns import WORDS
from launcher.recipe.section import Section

_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    dict: "a mapping",
    Any: "any value",
}


def key_of(name: str, field: FieldInfo) -> str:
    """The name a person writes: the alias where there is one."""
    return field.alias or name


@cache
def keys_of(section: type[Section]) -> dict[str, FieldInfo]:
    """The keys a section knows, in the order they are declared."""
    return {key_of(name, field): field for name, field in section.model_fields.items()}


def members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, without None; a plain type is its own only alternative."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return members(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return tuple(part for each in get_args(annotation) if each is not type(None) for part in members(each))
    return (annotation,)


def nullable(annotation: Any) -> bool:
    """Whether null is a value of its own for this annotation."""
    return annotation is Any or type(None) in get_args(annotation)


def section_of(annotation: Any) -> type[Section] | None:
    """The section that a key holds, if it holds one."""
    for each in members(annotation):
        if isinstance(each, type) and issubclass(each, Section):
            return each
    return None


def item_section_of(annotation: Any) -> type[Section] | None:
    """The section of which a key holds a list, if it does."""
    for each in members(annotation):
        if get_origin(each) is tuple:
            return section_of(get_args(each)[0])
    return None


def entry_of(annotation: Any) -> FieldInfo | None:
    """What each value of a mapping by name is, where a key holds one."""
    for each in members(annotation):
        if get_origin(each) is dict:
            return FieldInfo.from_annotation(get_args(each)[1])
    return None


def item_of(annotation: Any) -> FieldInfo | None:
    """What each item of a list is, where a key holds one."""
    for each in members(annotation):
        if get_origin(each) is tuple:
            return FieldInfo.from_annotation(get_args(each)[0])
    return None


def choices(annotation: Any) -> tuple[str, ...]:
    """The words a key accepts, of all its `Literal`s."""
    return tuple(str(word) for each in members(annotation) if get_origin(each) is Literal for word in get_args(each))


def expects(field: FieldInfo) -> str:
    """What a field accepts, in words: `a number above 0, at most 1, or auto`."""
    said = (*field.metadata, *_inside(field.annotation))
    limits = {name: value for each in said for name, value in _limits(each).items()}
    parts = [part for each in members(field.annotation) if (part := _type(each, limits))]
    words = choices(field.annotation)
    if words:
        listed = ", ".join(words)
        parts.append(f"one of {listed}" if len(words) > 1 else listed)
    return ", or ".join(parts)


def _inside(annotation: Any) -> Iterator[Any]:
    """What is said of single alternatives of a union: a range is not for the words beside it."""
    for each in get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ():
        if get_origin(each) is Annotated:
            yield from (limit for part in get_args(each)[1:] for limit in getattr(part, "metadata", (part,)))


def _limits(metadata: Any) -> dict[str, Any]:
    names = ("ge", "gt", "le", "lt", "pattern", "min_length")
    return {name: getattr(metadata, name) for name in names if getattr(metadata, name, None) is not None}


def _type(member: Any, limits: dict[str, Any]) -> str:
    origin = get_origin(member)
    if origin is Literal:
        return ""
    if origin is tuple:
        inside = expects(FieldInfo.from_annotation(get_args(member)[0]))
        least = ", at least one" if limits.get("min_length") else ""
        return f"a list (each {inside}){least}"
    if isinstance(member, type) and issubclass(member, Section):
        return f"a mapping ({', '.join(keys_of(member))})"
    if member is str and "pattern" in limits:
        return WORDS[limits["pattern"]]
    if origin is dict and "min_length" in limits:
        return "a mapping with at least one entry"
    word = _NAMES.get(origin or member, str(member))
    return word + _range(limits) if member in (int, float) else word


def _range(limits: dict[str, Any]) -> str:
    return range_words(limits.get("ge"), limits.get("gt"), limits.get("le"), limits.get("lt"))


def range_words(ge: float | None, gt: float | None, le: float | None, lt: float | None) -> str:
    """A range in words, with a blank before: ` from 1 to 4,096`, ` above 0, at most 1`."""
    low = f" from {_bound(ge)}" if ge is not None else f" above {_bound(gt)}" if gt is not None else ""
    if le is not None:
        return f"{low} to {_bound(le)}" if ge is not None else f"{low}, at most {_bound(le)}"
    return f"{low}, below {_bound(lt)}" if lt is not None else low


def _bound(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"
