"""What every dataset format is turned into: text, a pair, a conversation or token ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]


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
    """A conversation in the order system, user, assistant, …, with the assistant last.

    `prompt_messages` is how many messages belong to the prompt, where the row says so; `untrained` holds the positions
    of the assistant's messages that the row keeps out of the loss.
    """

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] | None = None
    prompt_messages: int | None = None
    untrained: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Tokens:
    """Token ids as the row gives them; `labels`, where given, holds for each its id, or -100 where it is not trained."""

    ids: list[int]
    labels: list[int] | None = None


Example = Text | Pair | Chat | Tokens


def wrong_type(name: str, value: Any, wanted: str) -> BadRowError:
    """The reason for a value of a type that cannot be used; `name` as it stands in the row."""
    if value is None:
        return BadRowError(f"`{name}` is null")
    return BadRowError(f"`{name}` is of type {type(value).__name__}, wanted {wanted}")


def parsed(text: str, name: str) -> Any:
    """A value from JSON in a string.

    Raises:
        BadRowError: it is not JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as fault:
        raise BadRowError(f"`{name}` is not JSON: {fault.msg} at character {fault.pos + 1}") from None
    except (ValueError, RecursionError) as fault:
        raise BadRowError(f"`{name}` cannot be read: {fault}") from None


def without_nulls(value: Any) -> Any:
    """The value without the keys that hold null: tables fill absent keys with it, and templates print it as a word."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def strings(value: Any) -> Iterator[str]:
    """Every string within a value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from strings(key)
            yield from strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from strings(each)
