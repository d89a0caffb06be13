"""Which dataset format a file's rows have, told from the names of their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.plan.data_files import DataPathError
from launcher.recipe.data import Source
from launcher.recipe.formats import FORMATS, Format, FormatName

_ASKED = ("question", "instruction", "query", "input", "prompt")
_ANSWERED = ("answer", "response", "output", "target", "completion")
_TALK = ("conversation", "conversations", "chat", "dialogue")
_PROSE = ("content", "document", "body")


@dataclass(frozen=True)
class Layout:
    """A format, and the file's own names of its columns."""

    format: FormatName
    columns: tuple[str, ...]


def sniff(source: Source, rows: Sequence[Mapping[str, Any]]) -> Layout | None:
    """The layout of a source's rows; None without rows to look at.

    Raises:
        DataPathError: no format, or not the one the recipe names, has its columns in these rows.
    """
    if not rows:
        return None
    present = list(rows[0])
    wanted = [FORMATS[source.format]] if source.format else list(FORMATS.values())
    for each in wanted:
        columns = tuple(source.columns.get(name, name) for name in each.columns)
        if all(name in present for name in columns):
            return Layout(each.name, columns)
    raise DataPathError(_missing(wanted, source, present), _suggest(rows[0], wanted))


def _missing(wanted: Sequence[Format], source: Source, present: Sequence[str]) -> str:
    found = ", ".join(f"`{name}`" for name in present[:8]) + (", …" if len(present) > 8 else "")
    needs = "; or ".join(" and ".join(f"`{source.columns.get(n, n)}`" for n in each.columns) for each in wanted)
    return f"its first row has {found or 'no columns'}, and needs {needs}"


def _suggest(row: Mapping[str, Any], wanted: Sequence[Format]) -> str:
    """A `columns:` line for one of the wanted formats where the names tell, else what its rows look like."""
    names = [each.name for each in wanted]
    asked, answered = _first(row, _ASKED), _first(row, _ANSWERED)
    if "prompt_completion" in names and asked and answered:
        return f"write `columns: {{prompt: {asked}, completion: {answered}}}`"
    talk, prose = _first(row, _TALK), _first(row, _PROSE)
    if "messages" in names and talk and _is_chat(row[talk]):
        return f"write `columns: {{messages: {talk}}}`"
    if "text" in names and prose and isinstance(row[prose], str):
        return f"write `columns: {{text: {prose}}}`"
    return f"`columns:` names the file's column for each of the format's; a row looks like {wanted[0].example}"


def _first(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in row), None)


def _is_chat(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and isinstance(value[0], dict) and {"role", "content"} <= set(value[0])
    )
