"""Local data files, looked at from outside: which ones, how many rows, how long. No row is kept."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from launcher.text import did_you_mean

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_COUNT_BYTES = 50 * 2**20
_PARSE_BYTES = 8 * 2**20
_HEAD_BYTES = 4 * 2**20
_SAMPLE_ROWS = 200


class DataPathError(Exception):
    """A path that cannot be read as data: what is wrong, and what to do if we know."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Count:
    """Rows of a file; `exact` is False for an extrapolation, `rows` None where counting needs a reader we do not load."""

    rows: int | None
    exact: bool


def expand(path: str, data_files: Sequence[str] = ()) -> tuple[Path, ...]:
    """The files that an absolute path, glob or folder stands for, sorted.

    Args:
        path: absolute path of a file or folder, or an absolute glob.
        data_files: names or globs inside the folder; empty: every data file in it.

    Raises:
        DataPathError: nothing there, not a regular file, empty, or of an unknown type.
    """
    if any(character in path for character in "*?[") and not os.path.lexists(path):
        found = sorted(Path(name) for name in glob.glob(path, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        if not found:
            raise DataPathError(f"no file matches {path}", nearest(Path(path)))
    elif Path(path).is_dir():
        found = _inside(Path(path), data_files)
    else:
        found = [Path(path)]
    if data_files and not Path(path).is_dir():
        raise DataPathError(f"{path} is no folder, and `data_files` names files in one", "remove `data_files`")
    for file in found:
        _check(file)
    return tuple(found)


def count_rows(file: Path) -> Count:
    """Rows of one file: counted up to 50 MiB (8 MiB where rows must be parsed), extrapolated from its head beyond."""
    size = file.stat().st_size
    if file.suffix == ".parquet":
        return Count(None, exact=False)
    if file.suffix == ".jsonl" or (file.suffix == ".json" and not _is_json_list(file)):
        return _count_lines(file, size)
    if size > _PARSE_BYTES:
        return _extrapolate_lines(file, size) if file.suffix == ".csv" else Count(None, exact=False)
    try:
        return Count(len(sample_rows(file, None)), exact=True)
    except (ValueError, csv.Error):
        return Count(None, exact=False)


def sample_rows(file: Path, most: int | None = _SAMPLE_ROWS) -> list[dict[str, Any]]:
    """The first rows of a file, as far as they can be read; empty for parquet."""
    if file.suffix == ".parquet":
        return []
    if file.suffix == ".csv":
        return _sample_csv(file, most)
    if file.suffix == ".json" and _is_json_list(file):
        rows = _json_list(file) if file.stat().st_size <= _PARSE_BYTES else []
        return [row for row in rows[:most] if isinstance(row, dict)]
    return _sample_lines(file, most)


def tokens_per_row(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, max_length: int) -> float | None:
    """Mean tokens of a row, guessed as characters / 4 and cut at `max_length`; None without rows."""
    lengths = [min(max_length, sum(_characters(row.get(name)) for name in columns or row) / 4) for row in rows]
    return sum(lengths) / len(lengths) if lengths else None


def nearest(missing: Path) -> str | None:
    """The nearest existing name beside a missing one; the first missing folder when the folder is missing too."""
    folder = missing.parent
    if not folder.is_dir():
        while not folder.parent.is_dir():
            folder = folder.parent
        near = _similar(folder)
        return f"there is no folder {folder}" + (f"; did you mean {near}?" if near else "")
    near = _similar(missing)
    return f"did you mean {near}?" if near else None


def _characters(value: Any) -> int:
    match value:
        case str():
            return len(value)
        case list():
            return sum(_characters(item) for item in value)
        case dict():
            return sum(_characters(item) for key, item in value.items() if key not in ("role", "from"))
    return 0


def _inside(folder: Path, data_files: Sequence[str]) -> list[Path]:
    patterns = data_files or [f"*{suffix}" for suffix in SUFFIXES]
    outside = next((pattern for pattern in patterns if not pattern or Path(pattern).is_absolute()), None)
    if outside is not None:
        raise DataPathError(
            f"`data_files` names files in {folder}, not `{outside}`", "write a name or a glob that starts in the folder"
        )
    # A system leaves hidden files behind (`._train.jsonl`) that hold no rows.
    matched = {path for pattern in patterns for path in folder.glob(pattern)}
    found = sorted(path for path in matched if not path.name.startswith("."))
    if not found:
        wanted = ", ".join(data_files or [f"*{suffix}" for suffix in SUFFIXES])
        raise DataPathError(f"the folder {folder} holds none of {wanted}")
    return found


def _check(file: Path) -> None:
    try:
        status = file.stat()
    except FileNotFoundError:
        if file.is_symlink():
            raise DataPathError(f"{file} is a link to {file.readlink()}, which does not exist") from None
        raise DataPathError(f"no file {file}", nearest(file)) from None
    except OSError as fault:
        raise DataPathError(f"{file} cannot be opened: {fault.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise DataPathError(f"{file} is {_kind(status.st_mode)}, not a file", "copy its rows to a file first")
    if file.suffix not in SUFFIXES:
        suffix = f"has the suffix `{file.suffix}`" if file.suffix else "has no suffix"
        raise DataPathError(f"{file} {suffix}", f"data files end in {', '.join(SUFFIXES)}")
    if status.st_size == 0:
        raise DataPathError(f"{file} is empty")
    if not os.access(file, os.R_OK):
        raise DataPathError(f"{file} cannot be read: its permissions are {stat.filemode(status.st_mode)}")
    _check_text(file)


def _check_text(file: Path) -> None:
    with file.open("rb") as stream:
        head = stream.read(2)
    if head == b"\x1f\x8b":
        raise DataPathError(f"{file} is compressed with gzip", "unpack it first")
    if head in (b"\xff\xfe", b"\xfe\xff"):
        raise DataPathError(f"{file} is in UTF-16", "save it as UTF-8")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _similar(missing: Path) -> Path | None:
    try:
        names = sorted(entry.name for entry in os.scandir(missing.parent))
    except OSError:
        return None
    near = did_you_mean(missing.name, names)
    return missing.parent / near if near else None


def _is_json_list(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _json_list(file: Path) -> list[Any]:
    try:
        return list(json.loads(file.read_text(encoding="utf-8-sig")))
    except (ValueError, RecursionError) as fault:
        raise DataPathError(f"{file} is not JSON: {fault}") from None


def _count_lines(file: Path, size: int) -> Count:
    if size > _COUNT_BYTES:
        return _extrapolate_lines(file, size)
    with file.open("rb") as stream:
        return Count(sum(1 for line in stream if not line.isspace()), exact=True)


def _extrapolate_lines(file: Path, size: int) -> Count:
    with file.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    return Count(round(size * head.count(b"\n") / len(head)), exact=False)


def _sample_lines(file: Path, most: int | None) -> list[dict[str, Any]]:
    with file.open("rb") as stream:
        head = stream.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace").split("\n")
    rows = []
    for line in islice((line for line in head if line.strip()), most):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue  # a bad row is reported by `prepare` with its line; the last line of a head may be torn
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _sample_csv(file: Path, most: int | None) -> list[dict[str, Any]]:
    with file.open("rb") as stream:
        head = stream.read(_PARSE_BYTES).decode("utf-8-sig", errors="replace")
    csv.field_size_limit(sys.maxsize)
    return list(islice(csv.DictReader(io.StringIO(head, newline="")), most))
