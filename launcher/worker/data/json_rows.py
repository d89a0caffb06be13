"""JSON as strictly as data wants it: a row for each line or array element, or the one reason why it is none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from launcher.errors import DataError
from launcher.worker.data.raw import AGAIN, Raw, Read

SPACE = " \t\r\n\v\f"
CUT = "the file looks cut: its last line does not end"
_HALF_CHARACTER = "holds half of a surrogate pair (\\ud800 to \\udfff), which is no character"
_DEEPEST = 500
_TOO_DEEP = f"is nested deeper than {_DEEPEST} levels"
_BLANKS = re.compile(r"[ \t\r\n]*")


class _RowFaultError(ValueError):
    """JSON that a parser takes and data must not hold."""


class _SyntaxFaultError(ValueError):
    """What is not JSON: the reason, and the index in the text that it speaks of."""

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, whose keys may each stand once: a parser would keep the last of two silently."""
    values = dict(pairs)
    if len(values) != len(pairs):
        seen = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _RowFaultError(f"has the key `{twice}` twice in one object")
    return values


def _constant(name: str) -> Any:
    raise _RowFaultError(f"holds {name}, which is not JSON")


# What `JSONDecoder.decode` calls between two searches for blanks that cost as much as a short row.
_strict, _lenient = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_constant), json.JSONDecoder()
_Scan = Callable[[str, int], tuple[Any, int]]
_scan: _Scan = _strict.scan_once  # type: ignore[attr-defined]
_scan_any: _Scan = _lenient.scan_once  # type: ignore[attr-defined]


def json_lines(file: str, lines: list[str | bytes], number: int, *, ended: bool) -> Iterator[Raw]:
    """A row for each line that is not blank.

    Args:
        file: what stands before a line's number in a place.
        lines: without their newlines; bytes where a line is not UTF-8.
        number: the first line's, from 1.
        ended: whether the last line has a newline.
    """
    last = None if ended else number + len(lines) - 1
    for at, line in enumerate(lines, number):
        if isinstance(line, bytes):
            yield Raw(f"{file}{at}", at, {}, not_utf8(line, cut=at == last))
        elif text := line.rstrip(SPACE):
            try:
                values = _row(text, cut=at == last)
            except _RowFaultError as fault:
                yield Raw(f"{file}{at}", at, {}, str(fault))
            else:
                yield Raw(f"{file}{at}", at, values)


def _row(text: str, *, cut: bool) -> dict[str, Any]:
    start = 0 if text[0] == "{" else len(text) - len(text.lstrip(SPACE + "\ufeff"))
    try:
        value, end = _value(text, start)
        if end != len(text):
            raise _syntax(text, "Extra data", end)
    except _SyntaxFaultError as fault:
        if "\0" in text:
            raise _RowFaultError(f"holds a NUL byte at character {text.index(chr(0)) + 1}") from None
        if cut and not text.endswith("}"):
            raise _RowFaultError(CUT) from None
        raise _RowFaultError(f"is not JSON: {fault.reason} at character {fault.at + 1}") from None
    return _checked(value, text)


def not_utf8(line: bytes, *, cut: bool = False) -> str:
    """The fault of a line that is not UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError as fault:
        return CUT if cut and fault.reason == "unexpected end of data" else f"is not UTF-8 (byte {fault.start + 1})"
    return "is not UTF-8"


def _value(text: str, start: int) -> tuple[Any, int]:
    try:
        return _scan(text, start)
    except StopIteration as fault:
        raise _syntax(text, "Expecting value", fault.value) from None
    except json.JSONDecodeError as fault:
        raise _syntax(text, fault.msg, fault.pos) from None
    except _RowFaultError:
        raise
    except RecursionError:
        raise _RowFaultError(_TOO_DEEP) from None
    except ValueError:  # Python's limit, against numbers that take hours to read
        raise _RowFaultError("holds a number of more than 4,300 digits") from None


def _syntax(text: str, message: str, at: int) -> _SyntaxFaultError:
    """What is wrong at one place; a comma too many, the commonest fault, in words of its own in every Python."""
    before, after = text[:at].rstrip(SPACE), text[at:].lstrip(SPACE)
    if after[:1] == ",":
        before, after = text[: len(text) - len(after) + 1], after[1:].lstrip(SPACE)
        if message == "Extra data" and not after:
            return _SyntaxFaultError("a comma after the row", len(before) - 1)
    if before.endswith(",") and after[:1] in ("}", "]"):
        return _SyntaxFaultError(f"a comma before `{after[0]}`", len(before) - 1)
    return _SyntaxFaultError(message, at)


def _checked(value: Any, text: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _RowFaultError(f"is a JSON {_kind(value)}, a row is an object such as {{…}}")
    if text.count("[") + text.count("{") > _DEEPEST and _depth(value) > _DEEPEST:
        raise _RowFaultError(_TOO_DEEP)
    if ("\\ud" in text or "\\uD" in text) and _half_character(value):
        raise _RowFaultError(_HALF_CHARACTER)
    return value


def _kind(value: Any) -> str:
    names = {list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return depth


def _half_character(value: Any) -> bool:
    """Whether a text in `value` holds half of a surrogate pair, which is no character and has no UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def json_array(file: str, data: bytes) -> Iterator[Read]:
    """The elements of the array that a whole file is.

    Raises:
        DataError: it is not UTF-8 or not an array to its end: what follows a fault of syntax cannot be told apart.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = data.count(b"\n", 0, fault.start) + 1
        byte = fault.start - data.rfind(b"\n", 0, fault.start)
        raise DataError(f"{file}:{line}: is not UTF-8 (byte {byte})") from None
    try:
        yield from _elements(text)
    except _SyntaxFaultError as fault:
        if fault.at >= len(text.rstrip(SPACE)) or not text.rstrip(SPACE).endswith("]"):
            raise DataError(f"{file}: the file looks cut: its array does not end", hint=AGAIN) from None
        line = text.count("\n", 0, fault.at) + 1
        column = fault.at - text.rfind("\n", 0, fault.at)
        raise DataError(f"{file}:{line}: is not JSON: {fault.reason} at character {column}") from None


def _elements(text: str) -> Iterator[Read]:
    at = _after_blanks(text, text.index("[") + 1)
    number = 0
    while number or text[at : at + 1] != "]":
        number += 1
        values, fault, end = _element(text, at)
        yield Read(number, values, fault, end - at)
        at = _after_blanks(text, end)
        if text[at : at + 1] == "]":
            break
        if text[at : at + 1] != ",":
            raise _syntax(text, "Expecting ',' delimiter", at)
        at = _after_blanks(text, at + 1)
    end = _after_blanks(text, at + 1)
    if end != len(text):
        raise _syntax(text, "Extra data", end)


def _element(text: str, start: int) -> tuple[dict[str, Any], str | None, int]:
    try:
        value, end = _value(text, start)
        return _checked(value, text[start:end]), None, end
    except _RowFaultError as fault:
        try:
            _, end = _scan_any(text, start)
        except (ValueError, RecursionError):
            raise _SyntaxFaultError(str(fault), start) from None
        return {}, str(fault), end


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at
