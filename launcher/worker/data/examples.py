"""From a raw row to an example: which columns, which format, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.errors import DataError
from launcher.plan.types import SourcePlan
from launcher.recipe.formats import FORMATS, Format, FormatName
from launcher.worker.data.sources import Raw

Message = dict[str, Any]

# Pairs of columns seen in public data, and the mapping that reads them.
_KNOWN_PAIRS = (("question", "answer"), ("instruction", "output"), ("instruction", "response"), ("input", "output"))


class BadRowError(Exception):
    """One row cannot be used; the text is the reason, without the place."""


@dataclass(frozen=True)
class Text:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Pair:
    """A prompt and its completion, both as strings."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Chat:
    """A conversation. `prompt_messages` is how many messages belong to the prompt, where the row says so."""

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] | None = None
    prompt_messages: int | None = None


Example = Text | Pair | Chat


def sniff(source: SourcePlan, first: Raw) -> Format:
    """The format of a source: what the recipe says, else the first one whose columns are all there.

    Raises:
        DataError: a mapped column is missing, or no format fits.
    """
    seen = ", ".join(f"`{name}`" for name in first.values) or "none"
    for ours, theirs in source.columns.items():
        if theirs not in first.values:
            raise DataError(
                f"{first.place}: no column `{theirs}` (source `{source.label}`, `columns: {{{ours}: {theirs}}}`); columns here: {seen}"
            )
    names = set(first.values) | set(source.columns)
    formats = (FORMATS[_known(source.format)],) if source.format else tuple(FORMATS.values())
    fitting = next((each for each in formats if names.issuperset(each.columns)), None)
    if fitting is None:
        wanted = " or ".join(f"{{{', '.join(each.columns)}}}" for each in formats)
        raise DataError(f"{first.place}: columns {seen}, wanted {wanted}", hint=_mapping_hint(first))
    return fitting


def _known(name: str) -> FormatName:
    return next(each for each in FORMATS if each == name)


def _mapping_hint(first: Raw) -> str | None:
    for prompt, completion in _KNOWN_PAIRS:
        if {prompt, completion} <= set(first.values):
            return f"add `columns: {{prompt: {prompt}, completion: {completion}}}` to the source"
    lists = [name for name, value in first.values.items() if isinstance(value, list)]
    if lists:
        return f"add `columns: {{messages: {lists[0]}}}` to the source, if `{lists[0]}` holds the conversation"
    return "name the columns with `columns: {text: …}` or `columns: {prompt: …, completion: …}`"


def example(row: Raw, layout: Format, columns: Mapping[str, str]) -> Example:
    """Check one row and take what its format needs.

    Raises:
        BadRowError: a column is missing, empty or of the wrong type.
    """
    if row.fault:
        raise BadRowError(row.fault)
    values = {name: _column(row, columns.get(name, name)) for name in layout.columns}
    if layout.name == "text":
        return Text(_string(values["text"], "text"))
    if layout.name == "messages":
        return Chat(_messages(values["messages"], "messages"), _tools(row))
    return _prompt_completion(values["prompt"], values["completion"], row)


def _column(row: Raw, name: str) -> Any:
    if name not in row.values:
        raise BadRowError(f"has no column `{name}`")
    if row.values[name] is None:
        raise BadRowError(f"column `{name}` is null")
    return row.values[name]


def _string(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadRowError(f"`{name}` is of type {type(value).__name__}, wanted a string")
    if not value.strip():
        raise BadRowError(f"`{name}` is empty")
    return value


def _prompt_completion(prompt: Any, completion: Any, row: Raw) -> Example:
    if isinstance(prompt, list) and isinstance(completion, list):
        before, after = _messages(prompt, "prompt"), _messages(completion, "completion")
        return Chat((*before, *after), _tools(row), prompt_messages=len(before))
    if isinstance(prompt, list) or isinstance(completion, list):
        raise BadRowError("`prompt` and `completion` must both be strings or both be lists of messages")
    return Pair(_string(prompt, "prompt"), _string(completion, "completion"))


def _messages(value: Any, name: str) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise BadRowError(f"`{name}` is of type {type(value).__name__}, wanted a list of messages")
    if not value:
        raise BadRowError(f"`{name}` is an empty list")
    return tuple(_message(each, f"{name}[{number}]") for number, each in enumerate(value))


def _message(value: Any, name: str) -> Message:
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        keys = ", ".join(value) if isinstance(value, dict) else type(value).__name__
        raise BadRowError(f"`{name}` has no `role` (it has: {keys}); a message is {{role: …, content: …}}")
    content = value.get("content")
    if not isinstance(content, str) and not (content is None and value.get("tool_calls")):
        raise BadRowError(f"`{name}.content` is of type {type(content).__name__}, wanted a string")
    # Tables of messages fill absent keys with null, which templates would print as words.
    return {key: each for key, each in value.items() if each is not None}


def _tools(row: Raw) -> tuple[Any, ...] | None:
    tools = row.values.get("tools")
    try:
        tools = json.loads(tools) if isinstance(tools, str) else tools
    except ValueError:
        raise BadRowError("`tools` is not JSON") from None
    if tools and not isinstance(tools, list):
        raise BadRowError(f"`tools` is of type {type(tools).__name__}, wanted a list")
    return tuple(tools) if tools else None
