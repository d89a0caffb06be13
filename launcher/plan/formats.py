"""Which dataset format a source's rows have, told from their columns: for the plan from a sample, for the worker from the first row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from launcher.plan.data_files import DataPathError
from launcher.recipe.formats import FORMATS, Format, FormatName
from launcher.text import did_you_mean

_ASKED = ("question", "instruction", "query", "input", "prompt")
_ANSWERED = ("answer", "response", "output", "target", "completion")
_CONTEXT = ("input", "context")
_TALK = ("conversation", "conversations", "messages", "chat", "dialogue", "dialog")
_PROSE = ("content", "document", "body")
_OTHER: dict[str, FormatName] = {"messages": "sharegpt", "sharegpt": "messages"}
_KEYS = {"messages": "`role` and `content`", "sharegpt": "`from` and `value`"}


class Described(Protocol):
    """What a source says of its rows; a recipe's source and a plan's both do."""

    @property
    def format(self) -> str | None:
        """Name of the format; None: told from the rows."""

    @property
    def columns(self) -> Mapping[str, str]:
        """The format's column → the file's column."""


@dataclass(frozen=True)
class Layout:
    """A format, and the file's own names of its columns."""

    format: FormatName
    names: dict[str, str]
    """The format's column, required or optional → the file's column."""

    told: bool = False
    """Whether the rows told the format, because the source names none."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The file's columns that this format reads, where they are there."""
        return tuple(self.names.values())


@dataclass(frozen=True)
class _Written:
    """A source as it would be with other columns."""

    format: str | None
    columns: Mapping[str, str]


def sniff(source: Described, rows: Sequence[Mapping[str, Any]]) -> Layout | None:
    """The layout of a source's rows, from the first one; None without rows to look at. Raises what `layout_of` raises."""
    return layout_of(source, rows[0]) if rows else None


def layout_of(source: Described, row: Mapping[str, Any]) -> Layout:
    """The layout that a source's first row tells.

    Where a row has the columns of several formats, the first in the order of `FORMATS` counts. Whether a conversation
    is `messages` or `sharegpt` is told from its items, in a column called either way.

    Raises:
        DataPathError: no format, or not the one the source names, has its columns in this row.
    """
    wanted = [each for each in FORMATS.values() if source.format in (None, each.name)]
    layout = _layout(source, row, wanted)
    if layout is None:
        raise _misfit(source, row, wanted)
    return layout


def _layout(source: Described, row: Mapping[str, Any], wanted: Sequence[Format]) -> Layout | None:
    """The first format that fits; tables fill the columns of other rows with null, so filled columns go first."""
    filled = {name for name, value in row.items() if value is not None}
    fits = (_fit(source, row, each, names) for names in (filled, set(row)) for each in wanted)
    return next((layout for layout in fits if layout), None)


def _fit(source: Described, row: Mapping[str, Any], each: Format, present: set[str]) -> Layout | None:
    names = {name: source.columns.get(name, name) for name in (*each.columns, *each.optional)}
    if each.name in _OTHER:
        own, other = each.columns[0], FORMATS[_OTHER[each.name]].columns[0]
        speech = {name: _speech(row.get(name)) for name in (names[own], source.columns.get(other, other))}
        column = next((name for name in speech if name in present and speech[name] == each.name), None)
        if column is None and speech[names[own]] is None and names[own] in present:
            column = names[own]
        return None if column is None else Layout(each.name, {**names, own: column}, source.format is None)
    fits = all(names[name] in present for name in each.columns)
    return Layout(each.name, names, source.format is None) if fits else None


def _speech(value: Any) -> str | None:
    """The format of a conversation, by the keys of its first item; None where they do not tell."""
    first = value[0] if isinstance(value, list) and value else None
    if not isinstance(first, dict):
        return None
    if "role" in first:
        return "messages"
    return "sharegpt" if "from" in first else None


def _misfit(source: Described, row: Mapping[str, Any], wanted: Sequence[Format]) -> DataPathError:
    found = ", ".join(f"`{name}`" for name in list(row)[:8]) + (", …" if len(row) > 8 else "")
    needed = {name for each in wanted for name in each.columns}
    for ours, theirs in source.columns.items():
        if ours in needed and theirs not in row:
            message = f"its first row has {found or 'no columns'}, and no `{theirs}` (`columns: {{{ours}: {theirs}}}`)"
            near = did_you_mean(theirs, row)
            return DataPathError(message, _columns_line(source, row, wanted, [{ours: near}] if near else []))
    name = wanted[0].name
    if len(wanted) == 1 and name in _OTHER:
        other = _layout(source, row, [FORMATS[_OTHER[name]]])
        column = other and other.names[FORMATS[other.format].columns[0]]
        if other and column and _speech(row[column]) == other.format:
            message = f"its first row has {_KEYS[other.format]} in `{column}`, and `{name}` needs {_KEYS[name]}"
            return DataPathError(message, "remove `format`" if source.columns else f"write `format: {other.format}`")
    needs = "; or ".join(" and ".join(f"`{source.columns.get(n, n)}`" for n in each.columns) for each in wanted)
    message = f"its first row has {found or 'no columns'}, and needs {needs}"
    return DataPathError(message, _columns_line(source, row, wanted, list(_guesses(row))))


def _columns_line(
    source: Described, row: Mapping[str, Any], wanted: Sequence[Format], guesses: Sequence[Mapping[str, str]]
) -> str:
    """The first `columns:` line with which one of the wanted formats reads this row, else what its rows look like."""
    for guess in guesses:
        columns = {**source.columns, **guess}
        layout = _layout(_Written(source.format, columns), row, wanted)
        if layout and set(guess) <= set(layout.names) and _readable(layout, row):
            return f"write `columns: {{{', '.join(f'{ours}: {theirs}' for ours, theirs in columns.items())}}}`"
    return f"`columns:` names the file's column for each of the format's; a row looks like {wanted[0].example}"


def _guesses(row: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Columns by names seen in public data, without those that are called right already."""
    for name in _TALK:
        if name in row:
            yield {FORMATS["sharegpt" if _speech(row[name]) == "sharegpt" else "messages"].columns[0]: name}
    asked, answered, context = (_first(row, names) for names in (_ASKED, _ANSWERED, _CONTEXT))
    if "instruction" in row and answered:
        guess = {"output": answered, **({"input": context} if context else {})}
        yield {ours: theirs for ours, theirs in guess.items() if ours != theirs}
    if asked and answered:
        guess = {"prompt": asked, "completion": answered}
        yield {ours: theirs for ours, theirs in guess.items() if ours != theirs}
    prose = _first(row, _PROSE)
    if prose:
        yield {"text": prose}


def _first(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in row), None)


def _readable(layout: Layout, row: Mapping[str, Any]) -> bool:
    """Whether the columns hold what the format wants: conversations, ids, or words."""
    values = [row[layout.names[name]] for name in FORMATS[layout.format].columns]
    if layout.format in _OTHER:
        return _speech(values[0]) == layout.format
    if layout.format == "prompt_completion" and all(_speech(value) == "messages" for value in values):
        return True
    return all(isinstance(value, list if layout.format == "tokenized" else str) for value in values)
