"""Plain scalars by YAML 1.2's core schema: `2e-4` is a number, `no` and `12:30:00` are text."""

from __future__ import annotations

import math
import re

NULL = frozenset({"", "~", "null", "Null", "NULL"})
TRUE = frozenset({"true", "True", "TRUE"})
FALSE = frozenset({"false", "False", "FALSE"})
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
MAX_DIGITS = 40


class ScalarError(ValueError):
    """A plain scalar that has no safe reading; `hint` says what to write."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def parse(text: str) -> str | int | float | bool | None:
    """The value of an unquoted scalar.

    Raises:
        ScalarError: a leading zero, too many digits, or not a finite number.
    """
    if text in NULL:
        return None
    if text in TRUE or text in FALSE:
        return text in TRUE
    if text[0] in "+-.0123456789":
        return _number(text)
    return text


def _number(text: str) -> str | int | float:
    if _LEADING_ZERO.fullmatch(text):
        decimal = re.sub(r"^([-+]?)0+(?=[0-9])", r"\1", text)
        raise ScalarError(f"the number {text} has a leading zero", f'write `{decimal}`, or `"{text}"` if it is text')
    if _NOT_FINITE.fullmatch(text):
        raise ScalarError(f"{text} is not a finite number", "write a finite number")
    if len(text) > MAX_DIGITS and _FLOAT.fullmatch(text):
        raise ScalarError(
            f"a number of {len(text)} characters", f"use at most {MAX_DIGITS} characters, or quotes if it is text"
        )
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text) or _HEXADECIMAL.fullmatch(text):
        return int(text[:MAX_DIGITS], 0)
    if _FLOAT.fullmatch(text):
        return _finite(text)
    return text


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ScalarError(f"{text} is not a finite number", "write a number below 1.8e308")
    return value
