"""Kinds of data files: which names hold rows, how they are compressed, and what a path is that is no file. A leaf."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import NamedTuple

TEXT = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")
COLUMNAR = (".parquet", ".arrow")
PACKED = {".gz": "gzip", ".zst": "zstd"}
"""Suffix → compression; behind the suffix of a text file."""

SUFFIXES = (*TEXT, *COLUMNAR, *(text + packed for packed in PACKED for text in TEXT))
LISTED = f"{', '.join((*TEXT, *COLUMNAR))}; text also as .gz and .zst"

DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""What stands between the cells of a table."""

_SEPARATORS = {"\t": "tabs", ";": "`;`", "|": "`|`", ",": "commas"}
_LONGEST_NAME = 100
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_HEAD = 64


class Kind(NamedTuple):
    """What a file's name says: the suffix of its rows, and the compression around them."""

    suffix: str
    packed: str | None


def kind(name: str) -> Kind | None:
    """The kind of a file by its name; None for a suffix that holds no rows."""
    lower = name.lower()
    packed = next((each for each in PACKED if lower.endswith(each)), "")
    inner = lower.removesuffix(packed)
    suffix = next((each for each in (*TEXT, *COLUMNAR) if inner.endswith(each)), None)
    if suffix is None or (packed and suffix in COLUMNAR):
        return None
    return Kind(suffix, PACKED.get(packed))


def compression(head: bytes) -> str | None:
    """The compression that a file's first bytes tell, whatever its name."""
    return next((each for magic, each in _MAGIC.items() if head.startswith(magic)), None)


def wide_encoding(head: bytes) -> str | None:
    """`utf-16`, `utf-16le`, `utf-16be` or `utf-32` where a text file's first bytes tell that it is not UTF-8.

    Without a byte order mark: every second byte of the first 64 is NUL, and no other is.
    """
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    even, odd = head[:_HEAD:2], head[1:_HEAD:2]
    if len(odd) < 2 or (any(even) and any(odd)) or not (any(even) or any(odd)):
        return None
    if any(even):
        return "utf-16le" if all(even) else None
    return "utf-16be" if all(odd) else None


def is_array(head: bytes, suffix: str) -> bool:
    """Whether text starts as one JSON array of rows; a line of a .jsonl file may itself be an array, of no objects."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start.startswith(b"[") or suffix not in (".json", ".jsonl", ".ndjson"):
        return False
    return suffix == ".json" or start[1:].lstrip()[:1] in (b"{", b"]")


def header_fault(names: Sequence[str], delimiter: str) -> tuple[str, str] | None:
    """What is wrong with the header of a table that is read with `delimiter`, and what to do."""
    twice = next((each for number, each in enumerate(names) if each in names[:number]), None)
    if twice is not None:
        return f"the header names `{twice}` twice", "rename or remove one of the columns"
    if any(len(each) > _LONGEST_NAME or "\n" in each for each in names):
        return "looks like a row, not like a header", "put a line with the columns' names first"
    other = next((each for each in _SEPARATORS if each in names[0]), None) if len(names) == 1 else None
    if other is None:
        return None
    apart = f"its cells are apart by {_SEPARATORS[other]}, and {_SEPARATORS[delimiter]} were expected"
    return f"the header is one column, `{names[0]}`: {apart}", _reread(other)


def _reread(delimiter: str) -> str:
    ends = {"\t": ".tsv", ",": ".csv"}.get(delimiter)
    if ends:
        return f"rename the file so that it ends in {ends}"
    reader = f"csv.reader(sys.stdin, delimiter='{delimiter}')"
    return (
        f'write it with commas: `python -c "import csv, sys; csv.writer(sys.stdout).writerows({reader})" < OLD > NEW`'
    )


def what_it_is(mode: int) -> str:
    """The name of what is no regular file, from its mode."""
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
