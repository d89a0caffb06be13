"""Rows as they will be trained, for the terminal: trained tokens stand out, special tokens and line breaks are kept."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from launcher.render import data_text

Kind = Literal["title", "border", "trained", "masked", "note"]
Piece = tuple[Kind, str]

_LONG, _HEAD, _TAIL = 1200, 800, 300
"""Characters of one piece of text: above the first, so many of its start and of its end are shown."""
_EXAMPLES = 4
"""Examples of a packed row that are shown."""
TEMPLATES: Mapping[str, str] = {
    "markers": "the chat template marks what the assistant says ({% generation %})",
    "training": "TRL's training template for this model marks what the assistant says",
    "prefixes": "the chat template has no {% generation %} marks: what each turn adds to the text is compared",
}
"""How the assistant's part of a conversation was found."""


def pieces(found: Mapping[str, Any], *, full: bool) -> Iterator[Piece]:
    """The rows in order, as pieces of text of one kind each.

    Args:
        found: what the worker found: `rows` and `notes`.
        full: leave nothing out of long rows.
    """
    for row in found["rows"]:
        yield "title", f"── {title(row)} ──\n"
        yield from _row(row, full=full)
        yield "masked", "\n"
    for note in found["notes"]:
        yield "note", f"{note}\n"


def plain(parts: Sequence[Piece]) -> str:
    """The pieces without colour: ⟦ ⟧ stand around what is trained; those that stand in the data are shown by their codes."""
    own = str.maketrans({"⟦": "\\u27e6", "⟧": "\\u27e7"})
    shown = ((kind, text if kind == "note" else text.translate(own)) for kind, text in parts)
    return "".join(f"⟦{text}⟧" if kind == "trained" else text for kind, text in shown)


def title(row: Mapping[str, Any]) -> str:
    """Set, number, source, tokens and place of a row."""
    packed = len(row["examples"]) > 1
    of = f"{len(row['examples'])} examples packed" if packed else row["examples"][0]["place"]
    parts = [f"{row['set']}[{row['number']}]", row["source"], tokens(row), of]
    return " · ".join(str(part) for part in parts if part)


def tokens(counted: Mapping[str, Any]) -> str:
    """Length and trained tokens of a row or an example."""
    return f"{counted['length']:,} token{'s' if counted['length'] != 1 else ''}, {counted['trained']:,} trained"


def figures(facts: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """What stands below the rows beside the sources: lengths, and how the assistant's part was found."""
    how = str((facts.get("template") or {}).get("how"))
    found = [("LENGTHS", data_text.length_table(facts))]
    return [*found, ("TEMPLATE", [TEMPLATES[how]])] if how in TEMPLATES else found


def visible(text: str) -> str:
    """Text whose control characters, and those that turn the direction of writing, are shown as escapes."""
    if text.isprintable():
        return text
    return "".join(_visible(letter) for letter in text)


def _visible(letter: str) -> str:
    hidden = letter not in "\n\t" and unicodedata.category(letter) in ("Cc", "Cf", "Cs")
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii") if hidden else letter


def _row(row: Mapping[str, Any], *, full: bool) -> Iterator[Piece]:
    examples = row["examples"]
    shown = set(range(len(examples))) if full else _shown(examples, row["source"])
    left_out = 0
    for number, example in enumerate(examples):
        if number not in shown:
            left_out += 1
            continue
        yield from _gap(left_out)
        left_out = 0
        if len(examples) > 1:
            yield "border", f"┄┄ {border(number, example, len(examples))} ┄┄\n"
        yield from _example(example, full=full)
    yield from _gap(left_out)


def _shown(examples: Sequence[Mapping[str, Any]], source: str | None) -> set[int]:
    """The first examples of the row, but of the source it was chosen for at least one."""
    shown = set(range(min(_EXAMPLES, len(examples))))
    mine = [number for number, each in enumerate(examples) if each["source"] == source]
    return shown if not mine or shown & set(mine) else {*sorted(shown)[:-1], mine[0]}


def border(number: int, example: Mapping[str, Any], of: int) -> str:
    """What stands at the start of an example in a packed row."""
    parts = [f"{number + 1} of {of}", example["source"], tokens(example), example["place"]]
    return " · ".join(str(part) for part in parts if part)


def _gap(examples: int) -> Iterator[Piece]:
    if examples:
        yield "border", f"┄┄ {examples} more example{'s' if examples != 1 else ''}; `--full` shows them ┄┄\n"


def _example(example: Mapping[str, Any], *, full: bool) -> Iterator[Piece]:
    last = ""
    for trained, text in example["segments"]:
        last = visible(text if full else _shortened(text))
        yield ("trained" if trained else "masked"), last
    if not last.endswith("\n") or example["segments"][-1][0]:
        yield "masked", "\n"


def _shortened(text: str) -> str:
    if len(text) <= _LONG:
        return text
    left_out = len(text) - _HEAD - _TAIL
    return f"{text[:_HEAD]} … {left_out:,} characters; `--full` shows them … {text[-_TAIL:]}"
