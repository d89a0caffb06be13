"""Strict YAML: every value with its line and column, and nothing that surprises.

Built on PyYAML's event stream, so that scalars are read by our own rules and limits hold before memory is spent:
no duplicate keys, no tags, no second document, bounded size, depth and aliases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from launcher.errors import Place, RecipeError
from launcher.recipe import scalars
from launcher.recipe.nodes import Items, Node, Scalar, Table
from launcher.text import quote

MAX_BYTES = 1_000_000
MAX_DEPTH = 64
MAX_NODES = 50_000
_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\ufeff")
_LOADER: Any = getattr(yaml, "CLoader", yaml.Loader)
"""Only its parser half is used (`yaml.parse`); no object is ever constructed from a tag."""


def read(data: bytes, source: str) -> Node:
    """The one document in `data`.

    Raises:
        RecipeError: at the first thing that is not strict YAML, with its place in `source`.
    """
    return read_text(decode(data, source), source)


def read_text(text: str, source: str, *, start: str = "start with `model:` and `data:`") -> Node:
    """Like `read`, for text that is decoded; `start` says what to write where nothing stands."""
    _check_characters(text, source)
    return _Reader(text, source, start).document()


def decode(data: bytes, source: str) -> str:
    """The text of a file in UTF-8.

    Raises:
        RecipeError: the file is too large, in another encoding, or holds control characters.
    """
    if len(data) > MAX_BYTES:
        raise RecipeError(
            f"the file has {len(data):,} bytes, a recipe at most {MAX_BYTES:,}",
            place=Place(source),
            hint="is this a data file? Name it in `data.datasets` instead",
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RecipeError(
            "the file is in UTF-16", place=Place(source, 1, 1), hint="save it as UTF-8 (without byte order mark)"
        )
    if data.startswith(b"\xef\xbb\xbf"):
        raise RecipeError(
            "the file starts with a byte order mark",
            place=Place(source, 1, 1),
            hint="save it as UTF-8 without byte order mark",
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        wrong = data[error.start : error.start + 1]
        raise RecipeError(
            f"byte 0x{wrong.hex()} is not UTF-8",
            place=place_of(before, len(before), source),
            hint=f"save the file as UTF-8; in Latin-1 this byte is `{wrong.decode('latin-1')}`",
        ) from None
    _check_characters(text, source)
    return text


def place_of(text: str, offset: int, source: str) -> Place:
    """The place of a character of `text`, counted from 1."""
    line_start = text.rfind("\n", 0, offset) + 1
    return Place(source, text.count("\n", 0, offset) + 1, offset - line_start + 1)


def _check_characters(text: str, source: str) -> None:
    if found := _CONTROL.search(text):
        raise RecipeError(
            f"the character U+{ord(found.group()):04X} is not allowed",
            place=place_of(text, found.start(), source),
            hint="remove it, or write it as an escape in double quotes",
        )


class _Reader:
    """One pass over the events of one text."""

    def __init__(self, text: str, source: str, start: str) -> None:
        self.text = text
        self.source = source
        self.start = start
        self.nodes = 0
        self.anchors: dict[str, tuple[Node, int]] = {}
        self.open_anchors: set[str] = set()
        self.keys: list[str] = []

    def document(self) -> Node:
        events = self._events()
        next(events)
        start = next(events)
        if isinstance(start, yaml.StreamEndEvent):
            raise self._error("the file is empty", Place(self.source, 1, 1), self.start)
        root = self._node(events, next(events), 0)
        next(events)
        extra = next(events)
        if isinstance(extra, yaml.DocumentStartEvent):
            raise self._error("a second document starts here", self._place(extra), "keep one document per file")
        return root

    def _events(self) -> Iterator[Any]:
        try:
            yield from yaml.parse(self.text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            raise self._syntax_error(error) from None

    def _node(self, events: Iterator[Any], event: Any, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._count(1, event)
        if depth > MAX_DEPTH:
            raise self._error(f"nested deeper than {MAX_DEPTH} levels", self._place(event), "a recipe needs about 5")
        if event.tag is not None:
            raise self._error(f"the tag {quote(event.tag)}", self._place(event), "remove it; recipes have no tags")
        if event.anchor is None:
            return self._content(events, event, depth)
        before = self.nodes
        self.open_anchors.add(event.anchor)
        node = self._content(events, event, depth)
        self.open_anchors.discard(event.anchor)
        self.anchors[event.anchor] = (node, self.nodes - before + 1)
        return node

    def _content(self, events: Iterator[Any], event: Any, depth: int) -> Node:
        if isinstance(event, yaml.MappingStartEvent):
            return self._table(events, event, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(each := next(events), yaml.SequenceEndEvent):
                items.append(self._below(str(len(items)), events, each, depth))
            return Items(tuple(items), self._place(event))
        return self._scalar(event)

    def _table(self, events: Iterator[Any], event: Any, depth: int) -> Table:
        entries: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        while not isinstance(each := next(events), yaml.MappingEndEvent):
            key, place = self._key(events, each, depth), self._place(each)
            if key in keys:
                raise RecipeError(
                    f"duplicate key, first written in line {keys[key].line}",
                    key=".".join([*self.keys, key]),
                    place=place,
                    hint=f"keep one of lines {keys[key].line} and {place.line}",
                )
            keys[key] = place
            entries[key] = self._below(key, events, next(events), depth)
        return Table(entries, keys, self._place(event))

    def _below(self, key: str, events: Iterator[Any], event: Any, depth: int) -> Node:
        self.keys.append(key)
        node = self._node(events, event, depth + 1)
        self.keys.pop()
        return node

    def _key(self, events: Iterator[Any], event: Any, depth: int) -> str:
        node = self._node(events, event, depth + 1)
        if not isinstance(node, Scalar):
            raise self._error("a key must be text, not a list or mapping", node.place, "write `key: value`")
        if node.text == "<<" and not node.quoted:
            raise self._error(
                "merge keys (`<<`) belong to YAML 1.1", node.place, "use `extends:`, or write the keys out"
            )
        if not isinstance(node.value, str):
            raise self._error(
                f"a key must be text, got {node.text or 'nothing'}", node.place, f'write `"{node.text}":`'
            )
        return node.value

    def _scalar(self, event: Any) -> Scalar:
        place = self._place(event)
        if not event.implicit[0]:
            return Scalar(event.value, place, event.value, quoted=True)
        try:
            return Scalar(scalars.parse(event.value), place, event.value)
        except scalars.ScalarError as error:
            raise RecipeError(error.message, key=".".join(self.keys), place=place, hint=error.hint) from None

    def _alias(self, event: Any) -> Node:
        name, place = event.anchor, self._place(event)
        if name in self.open_anchors:
            raise self._error(f"the alias *{name} stands inside its own anchor", place, "write the value out")
        if name not in self.anchors:
            raise self._error(f"the alias *{name} has no anchor &{name} before it", place, "write the value out")
        node, size = self.anchors[name]
        self._count(size, event)
        return node

    def _count(self, size: int, event: Any) -> None:
        self.nodes += size
        if self.nodes > MAX_NODES:
            raise self._error(
                f"more than {MAX_NODES:,} values after aliases are expanded", self._place(event), "write fewer aliases"
            )

    def _after(self, mark: Any) -> str:
        """What follows a mark; nothing means that something was never closed, and where it opened says more."""
        return "\n".join(
            [line[mark.column * (not n) :] for n, line in enumerate(self.text.splitlines()[mark.line :])]
        ).strip()

    def _place(self, event: Any) -> Place:
        return Place(self.source, event.start_mark.line + 1, event.start_mark.column + 1)

    @staticmethod
    def _error(message: str, place: Place, hint: str) -> RecipeError:
        return RecipeError(message, place=place, hint=hint)

    def _syntax_error(self, error: yaml.MarkedYAMLError) -> RecipeError:
        mark = error.problem_mark or error.context_mark
        if mark is not None and error.context_mark and not self._after(mark):
            mark = error.context_mark
        if mark is None:
            return self._error("not YAML", Place(self.source), "check the file")
        lines = [*self.text.splitlines(), ""]
        line = lines[min(mark.line, len(lines) - 1)]
        place = Place(self.source, mark.line + 1, mark.column + 1)
        indent = line[: len(line) - len(line.lstrip())]
        if "\t" in indent:
            return self._error(
                "a tab in the indentation", Place(self.source, mark.line + 1, indent.index("\t") + 1), "use spaces"
            )
        return self._error(f"not YAML here: {quote(line.strip())}", place, _syntax_hint(str(error.problem)))


def _syntax_hint(problem: str) -> str:
    if "mapping values are not allowed" in problem:
        return "one `key: value` per line; put text that holds `: ` in quotes"
    if "block end" in problem or "block collection" in problem or "'-' indicator" in problem:
        return "check the indentation: keys of one section start in one column"
    if "," in problem or "flow" in problem:
        return "check that every `[` and `{` is closed, with commas between entries"
    if "end of stream" in problem:
        return "close the quotes"
    if "cannot start any token" in problem:
        return "put the value in quotes"
    return f"the YAML parser says: {problem}"
