"""Rows that are token ids already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.worker.data.schema import BadRowError, Tokens, wrong_type

IGNORED = -100
_LARGEST = 2**31 - 1
_MASKS = ("completion_mask", "assistant_masks")


def tokens(values: Mapping[str, Any], ids_name: str, labels_name: str) -> Tokens:
    """Token ids and labels of one row.

    Raises:
        BadRowError: the first position whose id or label cannot be used; padding; a mask that would be ignored.
    """
    ids = _integers(values[ids_name], ids_name)
    if min(ids) < 0 or max(ids) > _LARGEST:
        at = next(number for number, each in enumerate(ids) if not 0 <= each <= _LARGEST)
        raise BadRowError(f"`{ids_name}[{at}]` is {_short(ids[at])}; ids go from 0 to {_LARGEST}")
    mask = values.get("attention_mask")
    if isinstance(mask, list) and 0 in mask:
        raise BadRowError(f"`attention_mask[{mask.index(0)}]` is 0; rows must hold no padding")
    if values.get(labels_name) is None:
        unread = next((name for name in _MASKS if values.get(name) is not None), None)
        if unread:
            raise BadRowError(f"`{unread}` is not read; write `labels`, with {IGNORED} where nothing is trained")
        return Tokens(ids)
    labels = _integers(values[labels_name], labels_name)
    if labels != ids:
        _check_labels(labels, ids, labels_name, ids_name)
    return Tokens(ids, labels)


def _integers(value: Any, name: str) -> list[int]:
    if not isinstance(value, list):
        raise wrong_type(name, value, "a list of integers")
    if not value:
        raise BadRowError(f"`{name}` is an empty list")
    if set(map(type, value)) != {int}:
        at = next(number for number, each in enumerate(value) if type(each) is not int)
        raise wrong_type(f"{name}[{at}]", value[at], "an integer")
    return value


def _check_labels(labels: list[int], ids: list[int], labels_name: str, ids_name: str) -> None:
    if len(labels) != len(ids):
        raise BadRowError(f"`{labels_name}` has {len(labels)} entries, and `{ids_name}` has {len(ids)}")
    trained = 0
    for number, (label, token) in enumerate(zip(labels, ids, strict=True)):
        if label == token:
            trained += 1
        elif label != IGNORED:
            reason = f"`{labels_name}[{number}]` is {_short(label)}, and `{ids_name}[{number}]` is {token}"
            raise BadRowError(f"{reason}; a label is its id, or {IGNORED}")
    if not trained:
        raise BadRowError(f"`{labels_name}` is {IGNORED} throughout: nothing is trained")


def _short(number: int) -> str:
    """A number as shown in a reason: one beyond 64 bits by its size."""
    return str(number) if abs(number) < 2**64 else f"a number of {number.bit_length()} bits"
