"""`validate --fix`: names of other tools and keys in the wrong section, rewritten in place with their comments."""

from __future__ import annotations

import difflib
import io
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from launcher.errors import EnvironmentFault, RecipeError, UsageError
from launcher.recipe import yaml
from launcher.recipe.extends import SHIPPED, read_source
from launcher.recipe.nodes import Items, Node, Table, at, key_place, plain, walk
from launcher.recipe.schema_walk import Loc, dotted, unknown_locs
from launcher.recipe.suggest import Suggestion, suggest
from launcher.runs.files import write_text
from launcher.text import redact

_VALUE = "VALUE"
_BY_HAND = "edit it by hand, as the hints of `launcher validate` say"
Pair = tuple[tuple[str, ...], Any]


@dataclass(frozen=True)
class Fixed:
    """A recipe's text before and after, what was rewritten and what was left, each as one line."""

    path: Path
    before: str
    after: str
    done: tuple[str, ...]
    left: tuple[str, ...]

    def difference(self) -> str:
        """A unified diff, without credentials."""
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True), self.after.splitlines(keepends=True), str(self.path), str(self.path)
        )
        return redact("".join(lines))

    def write(self) -> None:
        """Replace the file in one step."""
        if self.after == self.before:
            return
        path = self.path.resolve()
        try:
            mode = path.stat().st_mode
            write_text(path, self.after)
            path.chmod(stat.S_IMODE(mode))
        except OSError as error:
            raise EnvironmentFault(f"{self.path} cannot be written: {error.strerror}") from None


def fix(path: Path) -> Fixed:
    """The recipe at `path` with every name replaced that has one exact replacement.

    A value moves as it was written. Nothing is rewritten where the replacement is set already.

    Raises:
        RecipeError: the file is not strict YAML, or the result would not hold every value.
    """
    if str(path).startswith(SHIPPED):
        raise UsageError(
            f"{path} is shipped and not rewritten", hint=f"write a recipe of your own with `extends: {path}`"
        )
    source = read_source(path)
    text, done = source.text, list[str]()
    while True:
        after, more, left = _once(text, str(path))
        done += more
        if not more:
            return Fixed(path, source.text, after, tuple(done), tuple(left))
        text = after


def _once(text: str, shown: str) -> tuple[str, list[str], list[str]]:
    """The text after one pass, what was rewritten and what was left; moved sections need another pass."""
    tree = yaml.read_text(text, shown)
    if not isinstance(tree, Table):
        return text, [], []
    parser = _parser(tree)
    try:
        document, expected = parser.load(text), plain(tree)
    except YAMLError as error:
        raise RecipeError(f"cannot be rewritten: {error}".splitlines()[0], place=tree.place, hint=_BY_HAND) from None
    done: list[str] = []
    left: list[str] = []
    for loc in unknown_locs(tree):
        suggestion = suggest(loc, at(tree, loc))
        problem = _rewrite(document, expected, loc, suggestion)
        if problem:
            left.append(f"{dotted(tree, loc)}: {problem}")
        elif suggestion:
            done.append(f"{dotted(tree, loc)} → {suggestion.write}")
    after = _text(parser, document, text) if done else text
    if plain(yaml.read_text(after, shown)) != expected:
        raise RecipeError(
            "rewriting would change other values of this file",
            place=tree.place,
            hint=_BY_HAND,
        )
    return after, done, left


def _rewrite(document: Any, expected: Any, loc: Loc, suggestion: Suggestion | None) -> str | None:
    """Rewrite one key in the document and in the values expected of it; what is in the way, if something is."""
    if suggestion is None:
        return "unknown, and no name with one replacement"
    if not suggestion.template:
        return suggestion.note
    target: Loc = suggestion.item or ()
    pairs = list(_leaves(yaml.read_text(f"{{{suggestion.template}}}", "template")))
    value = _reach(expected, loc)
    if conflict := _conflict(_reach(expected, target), pairs, value):
        return f"`{conflict}` is set already"
    del _reach(expected, loc[:-1])[loc[-1]]
    for parts, leaf in pairs:
        _put(_reach(expected, target), parts, _with_value(leaf, value), 0)
    _move(document, loc, target, pairs)
    return None


def _move(document: CommentedMap, loc: Loc, target: Loc, pairs: list[Pair]) -> None:
    home, into = _reach(document, loc[:-1]), _reach(document, target)
    position = list(home).index(loc[-1]) if home is into else len(into)
    comment = home.ca.items.pop(loc[-1], None)
    value = home.pop(loc[-1])
    for parts, leaf in pairs:
        _put(into, parts, _with_value(leaf, value), position)
    if comment:
        _keep(comment, document, into, target, pairs[-1])


def _keep(comment: Any, document: CommentedMap, into: Any, target: Loc, pair: Pair) -> None:
    """Put the comment of a moved key beside it, or above the section it went to where that is in one line."""
    parts, leaf = pair
    holder = _reach(into, parts[:-1])
    if leaf == _VALUE and not any(each.fa.flow_style() for each in (holder, into)):
        for token in comment[2:3]:
            if token:
                token.start_mark.column = 0
        holder.ca.items[parts[-1]] = comment
        return
    tokens = [token for each in comment if each for token in (each if isinstance(each, list) else [each])]
    lines = [line.strip().lstrip("# ") for token in tokens for line in token.value.splitlines() if line.strip()]
    document.yaml_set_comment_before_after_key([*target, *parts][0], before="\n".join(lines))


def _leaves(node: Node, above: tuple[str, ...] = ()) -> Iterator[Pair]:
    """(path, value) of each value in a template; a list is one value."""
    if isinstance(node, Table) and node.entries:
        for key, below in node.entries.items():
            yield from _leaves(below, (*above, key))
    else:
        yield above, plain(node)


def _with_value(leaf: Any, value: Any) -> Any:
    if isinstance(leaf, list):
        return [_with_value(each, value) for each in leaf]
    if isinstance(leaf, dict):
        return {key: _with_value(each, value) for key, each in leaf.items()}
    return value if leaf == _VALUE else leaf


def _reach(root: Any, parts: Sequence[str | int]) -> Any:
    for part in parts:
        root = root[part]
    return root


def _conflict(into: Any, pairs: list[Pair], value: Any) -> str | None:
    """The first key of a template that stands already with another value, or is no section."""
    for parts, leaf in pairs:
        inside = into
        for depth, part in enumerate(parts[:-1], 1):
            inside = inside.get(part, {})
            if not isinstance(inside, dict):
                return ".".join(parts[:depth])
        wanted = _with_value(leaf, value)
        if inside.get(parts[-1], wanted) != wanted and not (wanted == {} and isinstance(inside[parts[-1]], dict)):
            return ".".join(parts)
    return None


def _put(into: Any, parts: tuple[str, ...], content: Any, position: int) -> None:
    """Write one value below `into`; a section that is new starts at `position`."""
    for part in parts[:-1]:
        if part not in into:
            _insert(into, part, CommentedMap() if isinstance(into, CommentedMap) else {}, position)
        into, position = into[part], len(into[part])
    if parts[-1] not in into:
        _insert(into, parts[-1], CommentedMap() if content == {} else content, position)


def _insert(into: Any, key: str, content: Any, position: int) -> None:
    if isinstance(into, CommentedMap):
        into.insert(min(position, len(into)), key, content)
    else:
        into[key] = content


def _parser(tree: Table) -> YAML:
    """A round-trip parser that indents lists as the file does."""
    parser = YAML()
    parser.preserve_quotes = True
    parser.width = 4096
    offset = max((_list_offset(tree, key, node) for key, node in walk(tree) if isinstance(node, Items)), default=2)
    parser.indent(mapping=2, sequence=offset + 2, offset=offset)
    return parser


def _list_offset(tree: Table, key: str, node: Items) -> int:
    """Blanks between the column of a key and the dash of a list below it; 0 for a list in brackets."""
    name = key_place(tree, tuple(int(part) if part.isdigit() else part for part in key.split(".")))
    block = name and node.items and node.place.line != name.line
    return (node.place.column or 1) - (name.column or 1) if block and name else 0


def _text(parser: YAML, document: CommentedMap, before: str) -> str:
    """The document as text; a comment that lost its place stands at the top."""
    stream = io.StringIO()
    parser.dump(document, stream)
    after = stream.getvalue()
    kept = {comment.lstrip("# ") for comment in _comments(after)}
    lost = [comment for comment in _comments(before) if comment.lstrip("# ") not in kept]
    return "".join(f"{comment}\n" for comment in lost) + after


def _comments(text: str) -> list[str]:
    return [found.rstrip() for found in re.findall(r"(?:^|(?<=\s))#.*$", text, re.MULTILINE)]
