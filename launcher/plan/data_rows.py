"""How many rows local data files hold and how long they are: counted, or extrapolated from a head. No row is kept."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from launcher.plan.data_files import DataPathError
from launcher.plan.data_kinds import COLUMNAR, DELIMITERS, compression, header_fault, is_array, kind

_COUNT_BYTES = 50 * 2**20
_PARSE_BYTES = 8 * 2**20
_HEAD_BYTES = 4 * 2**20
_SAMPLE_ROWS = 200
_MOST_COUNTED = 1000


@dataclass(frozen=True)
class Count:
    """Rows of a file; `exact` is False for an extrapolation, `rows` None where counting needs a reader we do not load."""

    rows: int | None
    exact: bool


def count_all(files: Sequence[Path]) -> Count:
    """Rows of all files together; beyond 1,000 files those are extrapolated by size."""
    looked = files[:_MOST_COUNTED]
    counts = [count_rows(file) for file in looked]
    known = [count.rows for count in counts if count.rows is not None]
    if len(known) < len(counts):
        return Count(None, exact=False)
    if len(looked) == len(files):
        return Count(sum(known), exact=all(count.exact for count in counts))
    seen, size = (sum(file.stat().st_size for file in each) for each in (looked, files))
    return Count(round(sum(known) * size / max(1, seen)), exact=False)


def count_rows(file: Path) -> Count:
    """Rows of one file: counted up to 50 MiB (8 MiB where rows must be parsed), extrapolated from its head beyond."""
    suffix = _suffix(file)
    if suffix in COLUMNAR or _packed(file) == "zstd":
        return Count(None, exact=False)
    parsed = suffix in DELIMITERS or _is_array(file)
    size, compressed = file.stat().st_size, _packed(file) == "gzip"
    if not parsed:
        return _count_unpacked(file, size) if compressed else _count_lines(file, size)
    if size > _PARSE_BYTES or (compressed and _unpacked_size(file) > _PARSE_BYTES):
        return _extrapolate_lines(file, size) if suffix in DELIMITERS and not compressed else Count(None, exact=False)
    try:
        return Count(len(sample_rows(file, None)), exact=True)
    except (ValueError, csv.Error):
        return Count(None, exact=False)


def sample_rows(file: Path, most: int | None = _SAMPLE_ROWS) -> list[dict[str, Any]]:
    """The first rows of a file, as far as they can be read; empty where a reader is needed that we do not load."""
    suffix = _suffix(file)
    if suffix in COLUMNAR or _packed(file) == "zstd":
        return []
    if suffix in DELIMITERS:
        return _sample_csv(file, most, DELIMITERS[suffix])
    if _is_array(file):
        rows = _json_list(file) if file.stat().st_size <= _PARSE_BYTES else []
        return [row for row in rows[:most] if isinstance(row, dict)]
    return _sample_lines(file, most, prose=suffix == ".txt")


def tokens_per_row(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, max_length: int) -> float | None:
    """Mean tokens of a row, guessed as characters / 4 and cut at `max_length`; None without rows."""
    lengths = [min(max_length, sum(_characters(row.get(name)) for name in columns or row) / 4) for row in rows]
    return sum(lengths) / len(lengths) if lengths else None


def _suffix(file: Path) -> str:
    found = kind(file.name)
    return found.suffix if found else ""


def _packed(file: Path) -> str | None:
    with file.open("rb") as stream:
        return compression(stream.read(4))


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """The text of a file, unpacked where gzip holds it."""
    try:
        with file.open("rb") as packed:
            yield cast("BinaryIO", gzip.GzipFile(fileobj=packed)) if _packed(file) == "gzip" else packed
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise DataPathError(
            f"{file}: its gzip data is cut or damaged", "copy the file again from where it came"
        ) from None


def _head(file: Path, size: int) -> bytes:
    with _opened(file) as stream:
        return stream.read(size)


def _is_array(file: Path) -> bool:
    return is_array(_head(file, 4096), _suffix(file))


def _unpacked_size(file: Path) -> int:
    return len(_head(file, _PARSE_BYTES + 1))


def _json_list(file: Path) -> list[Any]:
    head = _head(file, _PARSE_BYTES + 1)
    if len(head) > _PARSE_BYTES:
        return []
    try:
        return list(json.loads(head.decode("utf-8-sig")))
    except (ValueError, RecursionError) as fault:
        raise DataPathError(f"{file} is not JSON: {fault}") from None


def _count_lines(file: Path, size: int) -> Count:
    if size > _COUNT_BYTES:
        return _extrapolate_lines(file, size)
    with file.open("rb") as stream:
        return Count(sum(1 for line in stream if not line.isspace()), exact=True)


def _count_unpacked(file: Path, size: int) -> Count:
    """Rows of a gzip file: counted in its first 50 MiB, extrapolated by how much of the file they came from."""
    rows = seen = 0
    with _opened(file) as stream:
        for line in stream:
            rows += not line.isspace()
            seen += len(line)
            if seen > _COUNT_BYTES:
                return Count(round(rows * size / _taken(stream)), exact=False)
    return Count(rows, exact=True)


def _taken(stream: Any) -> int:
    """Bytes of the packed file that were unpacked so far."""
    return int(stream.fileobj.tell())


def _extrapolate_lines(file: Path, size: int) -> Count:
    head = _head(file, _HEAD_BYTES)
    return Count(round(size * head.count(b"\n") / len(head)), exact=False)


def _sample_lines(file: Path, most: int | None, *, prose: bool) -> list[dict[str, Any]]:
    head = _head(file, _HEAD_BYTES).decode("utf-8-sig", errors="replace").split("\n")
    lines = (line for line in head if line.strip())
    if prose:
        return [{"text": line} for line in islice(lines, most)]
    rows = []
    for line in islice(lines, most):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue  # a bad row is reported by `prepare` with its line; the last line of a head may be torn
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _sample_csv(file: Path, most: int | None, delimiter: str) -> list[dict[str, Any]]:
    head = _head(file, _PARSE_BYTES).decode("utf-8-sig", errors="replace")
    csv.field_size_limit(sys.maxsize)
    reader = csv.DictReader(io.StringIO(head, newline=""), delimiter=delimiter)
    if wrong := header_fault(list(reader.fieldnames or ()), delimiter):
        raise DataPathError(f"{file}:1: {wrong[0]}", wrong[1])
    return list(islice(reader, most))


def _characters(value: Any) -> int:
    match value:
        case str():
            return len(value)
        case list():
            return sum(_characters(item) for item in value)
        case dict():
            return sum(_characters(item) for key, item in value.items() if key not in ("role", "from"))
    return 0
