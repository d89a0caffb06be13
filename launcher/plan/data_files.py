"""Local data files, looked at from outside: which ones a path stands for, and whether they can be read at all."""

from __future__ import annotations

import errno
import glob
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from launcher.plan.data_kinds import COLUMNAR, LISTED, SUFFIXES, compression, kind, what_it_is, wide_encoding
from launcher.text import did_you_mean

_CHECKPOINT = re.compile(r"checkpoint-\d+|\..*")
# What `datasets.save_to_disk` writes beside the rows.
_ABOUT = ("dataset_info.json", "state.json", "dataset_dict.json")
_LISTED_FILES = 5


class DataPathError(Exception):
    """A path that cannot be read as data: what is wrong, and what to do if we know."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def expand(path: str, data_files: Sequence[str] = ()) -> tuple[Path, ...]:
    """The files that an absolute path, glob or folder stands for, sorted.

    Args:
        path: absolute path of a file or folder, or an absolute glob.
        data_files: names or globs inside the folder; empty: every data file in it.

    Raises:
        DataPathError: nothing there, not a regular file, empty, or of an unknown type.
    """
    if any(character in path for character in "*?[") and not os.path.lexists(path):
        found = _matching(path)
    elif Path(path).is_dir():
        found = _inside(Path(path), data_files)
    else:
        found = [Path(path)]
    if data_files and not Path(path).is_dir():
        raise DataPathError(f"{path} is no folder, and `data_files` names files in one", "remove `data_files`")
    for file in found:
        _check(file)
    return tuple(found)


def in_folder(folder: Path) -> list[Path]:
    """The data files of a folder, sorted. Text (.txt) counts where nothing else is there: it is mostly about the data."""
    # A system leaves hidden files behind (`._train.jsonl`) that hold no rows.
    found = sorted(path for path in folder.iterdir() if kind(path.name) and not path.name.startswith("."))
    if any(path.suffix == ".arrow" for path in found):
        found = [path for path in found if path.name not in _ABOUT]
    rows = [path for path in found if not _is_prose(path)]
    return rows or found


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


def _matching(pattern: str) -> list[Path]:
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    found = sorted(path for path in map(Path, names) if not path.is_dir())
    if not found:
        raise DataPathError(f"no file matches {pattern}", nearest(Path(pattern)))
    # What stands before the first wildcard was meant as it is written.
    written = set(Path(pattern).parts)
    odd = [path for path in found if kind(path.name) is None or _is_by_the_way(path, written)]
    if odd:
        shown = ", ".join(str(path) for path in odd[:_LISTED_FILES])
        more = f" and {len(odd) - _LISTED_FILES} more" if len(odd) > _LISTED_FILES else ""
        raise DataPathError(
            f"{pattern} matches {len(found)} {'file' if len(found) == 1 else 'files'}, of which {len(odd)} hold no rows: {shown}{more}",
            f"write a narrower pattern; data files end in {LISTED}",
        )
    return found


def _is_by_the_way(path: Path, written: set[str]) -> bool:
    return any(_CHECKPOINT.fullmatch(part) for part in path.parts if part not in written)


def _is_prose(path: Path) -> bool:
    found = kind(path.name)
    return found is not None and found.suffix == ".txt"


def _inside(folder: Path, data_files: Sequence[str]) -> list[Path]:
    outside = next((pattern for pattern in data_files if not pattern or Path(pattern).is_absolute()), None)
    if outside is not None:
        raise DataPathError(
            f"`data_files` names files in {folder}, not `{outside}`", "write a name or a glob that starts in the folder"
        )
    if not data_files:
        found = in_folder(folder)
    else:
        matched = {path for pattern in data_files for path in folder.glob(pattern)}
        found = sorted(path for path in matched if not path.name.startswith("."))
    if not found:
        wanted = ", ".join(data_files or [f"*{suffix}" for suffix in SUFFIXES[:8]])
        raise DataPathError(f"the folder {folder} holds none of {wanted}", f"data files end in {LISTED}")
    return found


def _check(file: Path) -> None:
    status = _status(file)
    if not stat.S_ISREG(status.st_mode):
        raise DataPathError(f"{file} is {what_it_is(status.st_mode)}, not a file", "copy its rows to a file first")
    found = kind(file.name)
    if found is None:
        suffix = f"has the suffix `{file.suffix}`" if file.suffix else "has no suffix"
        raise DataPathError(f"{file} {suffix}", f"data files end in {LISTED}")
    if status.st_size == 0:
        raise DataPathError(f"{file} is empty: 0 rows", "copy the file again, or take it out of the recipe")
    if not os.access(file, os.R_OK):
        raise DataPathError(f"{file} cannot be read: its permissions are {stat.filemode(status.st_mode)}")
    if found.suffix == ".parquet":
        _check_parquet(file)
    elif found.suffix not in COLUMNAR:
        _check_text(file, found.packed)


def _status(file: Path) -> os.stat_result:
    try:
        return file.stat()
    except FileNotFoundError:
        if file.is_symlink():
            raise DataPathError(f"{file} is a link to {file.readlink()}, which does not exist") from None
        raise DataPathError(f"no file {file}", nearest(file)) from None
    except OSError as fault:
        if fault.errno == errno.ELOOP:
            how = "is" if file.is_symlink() else "lies behind"
            raise DataPathError(
                f"{file} {how} a link that leads back to itself", "name the file it was made for"
            ) from None
        raise DataPathError(f"{file} cannot be opened: {fault.strerror}") from None


def _check_text(file: Path, packed: str | None) -> None:
    with file.open("rb") as stream:
        head = stream.read(64)
    if packed and compression(head) != packed:
        raise DataPathError(f"{file} is not compressed with {packed}", "name it after what it holds")
    if found := wide_encoding(head):
        spoken = found.upper().removesuffix("LE").removesuffix("BE")
        raise DataPathError(f"{file} is in {spoken}, not UTF-8", f"convert it: `iconv -f {found} -t utf-8 OLD > NEW`")


def _check_parquet(file: Path) -> None:
    with file.open("rb") as stream:
        head = stream.read(4)
        stream.seek(-min(4, file.stat().st_size), os.SEEK_END)
        tail = stream.read(4)
    if head != b"PAR1":
        raise DataPathError(f"{file} is no parquet file: it does not start with PAR1", "name it after what it holds")
    if tail != b"PAR1":
        raise DataPathError(f"{file} looks cut: it does not end with PAR1", "copy the file again from where it came")


def _similar(missing: Path) -> Path | None:
    try:
        names = sorted(entry.name for entry in os.scandir(missing.parent))
    except OSError:
        return None
    near = did_you_mean(missing.name, names)
    return missing.parent / near if near else None
