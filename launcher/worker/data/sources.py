"""Rows of a source with the place each one stands at: local jsonl, json, csv and parquet files, and hub datasets."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from launcher.errors import DataError, EnvironmentFault
from launcher.plan.types import SourcePlan

_HALF_CHARACTER = "holds half of a surrogate pair (\\ud800 to \\udfff), which is no character"
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")


@dataclass(frozen=True)
class Raw:
    """One row as it stands in the source, or the reason why it could not be read."""

    place: str
    values: dict[str, Any]
    fault: str | None = None


def local_files(placed: str | Sequence[str]) -> tuple[Path, ...]:
    """The files behind one entry of the placement; a folder stands for the data files in it, in the order of their names."""
    paths = [Path(placed)] if isinstance(placed, str) else [Path(path) for path in placed]
    inside = (sorted(p for p in path.iterdir() if p.suffix in SUFFIXES) if path.is_dir() else [path] for path in paths)
    return tuple(file for files in inside for file in files)


def read(source: SourcePlan, files: Sequence[Path] | None) -> Iterator[Raw]:
    """Rows of one source in order, at most `max_rows`.

    Raises:
        EnvironmentFault: a file is missing or the hub dataset cannot be loaded.
        DataError: a file as a whole cannot be read.
    """
    rows = _hub(source) if files is None else _local(files)
    return islice(rows, source.max_rows)


def _local(files: Iterable[Path]) -> Iterator[Raw]:
    for file in files:
        if not file.is_file():
            raise EnvironmentFault(f"{file}: no such data file")
        yield from _reader(file)


def _reader(file: Path) -> Iterator[Raw]:
    if file.suffix in (".jsonl", ".ndjson"):
        return _lines(file)
    if file.suffix == ".json":
        return _array(file) if _starts_with_bracket(file) else _lines(file)
    if file.suffix == ".csv":
        return _csv(file)
    if file.suffix == ".parquet":
        return _parquet(file)
    raise DataError(f"{file}: unknown kind of file `{file.suffix}`", hint=f"convert it to one of {', '.join(SUFFIXES)}")


def _lines(file: Path) -> Iterator[Raw]:
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield _json_row(f"{file}:{number}", line)


def _json_row(place: str, line: bytes) -> Raw:
    try:
        value = json.loads(line.decode("utf-8-sig").strip())
    except UnicodeDecodeError as fault:
        return Raw(place, {}, f"is not UTF-8 (byte {fault.start + 1})")
    except json.JSONDecodeError as fault:
        return Raw(place, {}, f"is not JSON: {fault.msg} at character {fault.pos + 1}")
    except (ValueError, RecursionError) as fault:
        return Raw(place, {}, f"cannot be read: {fault}")
    if b"\\ud" in line.lower() and _half_character(value):
        return Raw(place, {}, _HALF_CHARACTER)
    return _object(place, value)


def _half_character(value: Any) -> bool:
    """Whether a text in `value` holds half of a surrogate pair, which is no character and has no UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _object(place: str, value: Any) -> Raw:
    if not isinstance(value, dict):
        return Raw(place, {}, f"is a JSON {_kind(value)}, a row is an object such as {{…}}")
    return Raw(place, value)


def _kind(value: Any) -> str:
    names = {list: "array", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return names.get(type(value), "object")


def _starts_with_bracket(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _array(file: Path) -> Iterator[Raw]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        values = json.loads(text)
    except UnicodeDecodeError as fault:
        raise DataError(f"{file}: is not UTF-8 (byte {fault.start + 1})") from None
    except (ValueError, RecursionError) as fault:
        raise DataError(f"{file}: is not JSON: {fault}") from None
    pairs = "\\ud" in text.lower()
    for number, value in enumerate(values, 1):
        place = f"{file}: row {number}"
        yield Raw(place, {}, _HALF_CHARACTER) if pairs and _half_character(value) else _object(place, value)


def _csv(file: Path) -> Iterator[Raw]:
    csv.field_size_limit(sys.maxsize)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        try:
            _check_header(file, list(reader.fieldnames or ()))
            for row in reader:
                yield _csv_row(f"{file}:{reader.line_num}", row)
        except csv.Error as fault:
            raise DataError(f"{file}:{reader.line_num + 1}: cannot be read as CSV: {fault}") from None
        except UnicodeDecodeError:
            raise DataError(_not_utf8(file)) from None


def _check_header(file: Path, names: Sequence[str]) -> None:
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise DataError(f"{file}:1: the header names `{twice}` twice", hint="rename or remove one of the columns")


def _not_utf8(file: Path) -> str:
    """Where a file stops being UTF-8; a text reader only knows the place within its buffer."""
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError as fault:
                return f"{file}:{number}: is not UTF-8 (byte {fault.start + 1})"
    return f"{file}: is not UTF-8"


def _csv_row(place: str, row: dict[str | None, Any]) -> Raw:
    if None in row:  # where csv puts what no column takes
        more = len(row[None])
        return Raw(place, {}, f"has {more} {'cell' if more == 1 else 'cells'} more than the header")
    missing = [name for name, value in row.items() if value is None]
    if missing:
        return Raw(place, {}, f"has no cell for column `{missing[0]}`")
    return Raw(place, {str(name): value for name, value in row.items()})


def _parquet(file: Path) -> Iterator[Raw]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        number = 0
        for batch in pq.ParquetFile(file).iter_batches(1024):
            for value in batch.to_pylist():
                number += 1
                yield Raw(f"{file}: row {number}", value)
    except (pa.ArrowException, OSError) as fault:
        raise DataError(f"{file}: cannot be read as parquet: {str(fault).splitlines()[0]}") from None


def _hub(source: SourcePlan) -> Iterator[Raw]:
    import datasets

    try:
        rows = datasets.load_dataset(
            source.path,
            source.name,
            split=source.split,
            data_files=list(source.data_files) if source.data_files else None,
            revision=source.revision,
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as fault:
        raise EnvironmentFault(
            f"dataset `{source.path}` (source `{source.label}`) cannot be loaded: {str(fault).splitlines()[0]}",
            hint="check the name and split, and that this machine has it cached or can reach the hub",
        ) from fault
    return (Raw(f"{source.path}[{source.split}] row {number}", row) for number, row in enumerate(rows, 1))
