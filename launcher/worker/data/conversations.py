"""Conversations: lists of messages become one checked `Chat`, whatever their format calls roles and contents."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from launcher.text import quote
from launcher.worker.data.roles import SYSTEM, Speech, check_order, role_of
from launcher.worker.data.schema import BadRowError, Chat, Message, strings, wrong_type
from launcher.worker.data.toolcalls import spoken_calls, tool_calls

Control = re.Pattern[str] | None
"""A pattern of the tokenizer's special tokens, which no text may hold; None: not looked for."""

_OURS = frozenset({"role", "content", "train", "weight"})
_MAY_BE_EMPTY = SYSTEM | {"tool"}


def messages(value: Any, name: str, speech: Speech, control: Control) -> tuple[list[Message], frozenset[int]]:
    """The messages of one list, each with `role` and `content`, and the positions of those that are not trained.

    Args:
        value: what the row holds.
        name: how the row calls it.
        speech: how its format writes a message.
        control: tokens that no message may hold.

    Raises:
        BadRowError: no list, an empty one, or the first message that cannot be used.
    """
    if not isinstance(value, list):
        raise wrong_type(name, value, "a list of messages")
    if not value:
        raise BadRowError(f"`{name}` is an empty list")
    found: list[Message] = []
    untrained: list[int] = []
    roles, role_key, content_key = speech.roles, speech.role, speech.content
    for number, each in enumerate(value):
        # Nearly all messages are two filled strings and nothing else; the rest is looked at slowly.
        if type(each) is dict and len(each) == 2:
            role, content = each.get(role_key), each.get(content_key)
            if (
                type(role) is type(content) is str
                and role in roles
                and content
                and not content.isspace()
                and (control is None or control.search(content) is None)
            ):
                found.append({"role": roles[role], "content": content})
                continue
        place = f"{name}[{number}]"
        message, trained = _message(each, place, speech)
        for key, words in message.items() if control else ():
            for text in strings(words):
                refuse_text(text, f"{place}.{key if speech.whole else content_key}", control)
        found.append(message)
        if not trained:
            untrained.append(number)
    return found, frozenset(untrained)


def chat(
    found: Sequence[Message],
    place: Callable[[int], str],
    tools: tuple[Any, ...] | None,
    *,
    untrained: frozenset[int] = frozenset(),
    prompt_messages: int | None = None,
) -> Chat:
    """A conversation whose roles speak in order, and in which something is trained.

    Raises:
        BadRowError: they do not, or every message of the assistant is marked as not trained.
    """
    roles = [message["role"] for message in found]
    check_order(roles, place)
    if untrained and len(untrained) == roles.count("assistant"):
        raise BadRowError("no assistant message is trained: each has `train: false` or `weight: 0`")
    return Chat(tuple(found), tools, prompt_messages, untrained)


def refuse_text(text: str, name: str, control: Control) -> None:
    """Refuse text that a tokenizer would read as more than text.

    Raises:
        BadRowError: names the control token and where it stands.
    """
    token = control.search(text) if control else None
    if token:
        raise BadRowError(f"`{name}` holds the control token `{token.group()}`")


def _message(value: Any, place: str, speech: Speech) -> tuple[Message, bool]:
    """One message, and whether it is trained if it is the assistant's."""
    if not isinstance(value, dict):
        raise wrong_type(place, value, f"an object {speech.shape}")
    if speech.role not in value:
        raise BadRowError(f"`{place}` has no `{speech.role}` ({_has(value)}); a message is {speech.shape}")
    if speech.calls is not None and value[speech.role] == speech.calls:
        calls = spoken_calls(value.get(speech.content), f"{place}.{speech.content}")
        return {"role": "assistant", "tool_calls": calls}, _trained(value, "assistant", place)
    role = role_of(value[speech.role], place, speech)
    trained = _trained(value, role, place)
    message: Message = {"role": role}
    if speech.whole:
        # Tables of messages fill absent keys with null, which templates would print as words.
        message |= {key: each for key, each in value.items() if each is not None and key not in _OURS}
    _take_calls(message, role, place)
    content = _content(value, role, place, speech, has_calls="tool_calls" in message)
    if content is not None:
        message["content"] = content
    return message, trained


def _has(value: Message) -> str:
    return f"it has: {', '.join(map(str, value)) or 'nothing'}"


def _trained(value: Message, role: str, place: str) -> bool:
    """What `train: false` or OpenAI's `weight: 0` say; true without them."""
    train, weight = value.get("train"), value.get("weight")
    if train is not None and not isinstance(train, bool):
        raise BadRowError(f"`{place}.train` is {quote(str(train))}, wanted true or false")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        raise BadRowError(f"`{place}.weight` is {quote(str(weight))}, wanted 0 or 1")
    if train is not None and weight is not None and train != bool(weight):
        raise BadRowError(f"`{place}` has `train: {str(train).lower()}` and `weight: {weight}`, which disagree")
    if role != "assistant":
        if train or weight:
            key = "train: true" if train else "weight: 1"
            raise BadRowError(f"`{place}` has `{key}`, and role `{role}`; only the assistant's messages are trained")
        return True
    return train is not False and weight != 0


def _take_calls(message: Message, role: str, place: str) -> None:
    """Put tool calls into their one shape, and drop an empty list of them."""
    if "function_call" in message:
        raise BadRowError(f"`{place}.function_call` is not read; write `tool_calls`")
    calls = message.pop("tool_calls", None)
    if not calls:
        return
    if role != "assistant":
        raise BadRowError(f"`{place}` has `tool_calls`, and role `{role}`; only the assistant calls tools")
    message["tool_calls"] = tool_calls(calls, f"{place}.tool_calls")


def _content(value: Message, role: str, place: str, speech: Speech, *, has_calls: bool) -> str | None:
    """The text of a message; None for a tool call without words."""
    name, content = f"{place}.{speech.content}", value.get(speech.content)
    if content is None and has_calls:
        return None
    if speech.content not in value:
        raise BadRowError(f"`{place}` has no `{speech.content}` ({_has(value)})")
    if isinstance(content, list):
        content = "".join(_part(each, f"{name}[{number}]") for number, each in enumerate(content))
    if not isinstance(content, str):
        raise wrong_type(name, content, "a string")
    if not content.strip() and role not in _MAY_BE_EMPTY and not has_calls:
        raise BadRowError(f"`{name}` is empty")
    return content


def _part(value: Any, name: str) -> str:
    if not isinstance(value, dict):
        raise wrong_type(name, value, "an object {type: text, text: …}")
    if value.get("type") != "text":
        kind = f"is of type `{value['type']}`" if value.get("type") else f"has no `type` ({_has(value)})"
        raise BadRowError(f"`{name}` {kind}; only text is trained")
    if not isinstance(value.get("text"), str):
        raise wrong_type(f"{name}.text", value.get("text"), "a string")
    return str(value["text"])
