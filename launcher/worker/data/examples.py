"""From a raw row to an example: which format, which columns, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from launcher.errors import DataError
from launcher.plan.data_files import DataPathError
from launcher.plan.formats import Layout, layout_of
from launcher.plan.types import SourcePlan
from launcher.recipe.formats import FORMATS
from launcher.worker.data.conversations import Control, chat, messages, refuse_text
from launcher.worker.data.ids import tokens
from launcher.worker.data.raw import Raw
from launcher.worker.data.roles import MESSAGES, SHAREGPT
from launcher.worker.data.schema import (
    BadRowError,
    Chat,
    Example,
    Message,
    Pair,
    Text,
    Tokens,
    strings,
    wrong_type,
)
from launcher.worker.data.toolcalls import tools

__all__ = [
    "BadRowError",
    "Chat",
    "Example",
    "Layout",
    "Message",
    "Pair",
    "Text",
    "Tokens",
    "control_pattern",
    "example",
    "sniff",
]

_MEDIA = frozenset({"image", "images", "audio", "audios", "video", "videos"})


Values = Mapping[str, Any]


def sniff(source: SourcePlan, first: Raw) -> Layout:
    """The layout of a source: what the recipe says, else what its first row tells.

    Raises:
        DataError: a mapped column is missing, or no format fits.
    """
    try:
        return layout_of(source, first.values)
    except DataPathError as fault:
        raise DataError(f"{first.place} (source `{source.label}`): {fault.message}", hint=fault.hint) from None


def control_pattern(special: Iterable[str]) -> re.Pattern[str] | None:
    """One pattern for a tokenizer's special tokens, the longest first; None without any."""
    words = sorted({each for each in special if each.strip()}, key=lambda each: (-len(each), each))
    return re.compile("|".join(map(re.escape, words))) if words else None


def example(row: Raw, layout: Layout, *, special: re.Pattern[str] | None = None) -> Example:
    """Check one row and take what its format needs.

    Args:
        row: as it was read.
        layout: the source's format and its columns.
        special: the tokenizer's special tokens, which no text of a conversation may hold (`control_pattern`).
            Running text and prompts that are strings may: people render templates themselves.

    Raises:
        BadRowError: a column is missing, empty or of the wrong type, or a conversation cannot be learnt from.
    """
    if row.fault:
        raise BadRowError(row.fault)
    return _READERS[layout.format](row.values, layout, special)


def _text(values: Values, layout: Layout, _: Control) -> Text:
    return Text(_string(values, layout, "text"))


def _tokenized(values: Values, layout: Layout, _: Control) -> Tokens:
    _column(values, layout, "input_ids")
    return tokens(values, layout.names["input_ids"], layout.names["labels"])


def _messages(values: Values, layout: Layout, control: Control) -> Chat:
    name = layout.names["messages"]
    found, untrained = messages(_column(values, layout, "messages"), name, MESSAGES, control)
    _refuse_media(values)
    return chat(found, lambda i: f"{name}[{i}]", _tools(values, layout, control), untrained=untrained)


def _sharegpt(values: Values, layout: Layout, control: Control) -> Chat:
    name = layout.names["conversations"]
    found, untrained = messages(_column(values, layout, "conversations"), name, SHAREGPT, control)
    _refuse_media(values)
    described = _tools(values, layout, control)
    system = _optional(values, layout, "system", control)
    if system is None:
        return chat(found, lambda i: f"{name}[{i}]", described, untrained=untrained)
    return chat(
        [{"role": "system", "content": system}, *found],
        lambda i: f"{name}[{i - 1}]" if i else layout.names["system"],
        described,
        untrained=frozenset(number + 1 for number in untrained),
    )


def _alpaca(values: Values, layout: Layout, control: Control) -> Chat:
    _refuse_media(values)
    asked, answer = _string(values, layout, "instruction"), _string(values, layout, "output")
    refuse_text(asked, layout.names["instruction"], control)
    refuse_text(answer, layout.names["output"], control)
    more, system = _optional(values, layout, "input", control), _optional(values, layout, "system", control)
    user = {"role": "user", "content": asked if more is None else f"{asked}\n\n{more}"}
    before = () if system is None else ({"role": "system", "content": system},)
    return Chat((*before, user, {"role": "assistant", "content": answer}))


def _prompt_completion(values: Values, layout: Layout, control: Control) -> Example:
    _refuse_media(values)
    prompt, completion = _column(values, layout, "prompt"), _column(values, layout, "completion")
    ours, theirs = layout.names["prompt"], layout.names["completion"]
    if isinstance(prompt, list) != isinstance(completion, list):
        kinds = f"`{ours}` is of type {type(prompt).__name__}, `{theirs}` of type {type(completion).__name__}"
        raise BadRowError(f"{kinds}; both must be strings, or both lists of messages")
    if not isinstance(prompt, list):
        return Pair(_string(values, layout, "prompt"), _string(values, layout, "completion"))
    before, skipped = messages(prompt, ours, MESSAGES, control)
    after, untrained = messages(completion, theirs, MESSAGES, control)
    split = len(before)
    return chat(
        [*before, *after],
        lambda i: f"{ours}[{i}]" if i < split else f"{theirs}[{i - split}]",
        _tools(values, layout, control),
        untrained=skipped | {number + split for number in untrained},
        prompt_messages=split,
    )


_READERS: dict[str, Callable[[Values, Layout, Control], Example]] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
    "tokenized": _tokenized,
    "text": _text,
}


def _column(values: Values, layout: Layout, ours: str) -> Any:
    value = values.get(layout.names[ours])
    if value is None:
        raise BadRowError(_missing(values, layout, layout.names[ours]))
    return value


def _missing(values: Values, layout: Layout, name: str) -> str:
    """Why a column has no value: an absent one, a null, or a row of another format."""
    filled = {each for each, value in values.items() if value is not None}
    reason = f"column `{name}` is null" if name in values else f"has no column `{name}`"
    elsewhere = any(filled.issuperset(each.columns) for each in FORMATS.values())
    if not filled or (name in values and not elsewhere):
        return reason
    found = [f"`{each}`" for each in values if each in filled]
    told = ", told from its first row" if layout.told else ""
    listed = ", ".join(found[:8]) + (", …" if len(found) > 8 else "")
    return f"{reason}, but there is {listed}; the source's format is `{layout.format}`{told}"


def _string(values: Values, layout: Layout, ours: str) -> str:
    value, name = _column(values, layout, ours), layout.names[ours]
    if not isinstance(value, str):
        raise wrong_type(name, value, "a string")
    if not value or value.isspace():
        raise BadRowError(f"`{name}` is empty")
    return value


def _optional(values: Values, layout: Layout, ours: str, control: Control) -> str | None:
    """A string that may be absent; None when it is, or blank."""
    name = layout.names[ours]
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(name, value, "a string")
    refuse_text(value, name, control)
    return value if value.strip() else None


def _tools(values: Values, layout: Layout, control: Control) -> tuple[Any, ...] | None:
    name = layout.names["tools"]
    if values.get(name) is None:
        return None
    found = tools(values[name], name)
    for text in strings(found) if control else ():
        refuse_text(text, name, control)
    return found


def _refuse_media(values: Values) -> None:
    if not _MEDIA.isdisjoint(values):
        filled = next((name for name in values if name in _MEDIA and values[name]), None)
        if filled:
            raise BadRowError(f"has `{filled}`; only text is trained")
