"""Rows of a source with the place each one stands at: files on this machine, URLs, and data sets of the hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.errors import DataError
from launcher.plan import data_files
from launcher.plan.data_kinds import LISTED, kind
from launcher.plan.types import SourcePlan
from launcher.worker.data.raw import Chunk, Raw, first, open_regular
from launcher.worker.data.remote import fingerprint, hub_chunks, is_url, url_chunks
from launcher.worker.data.tables import arrow_chunks, parquet_chunks
from launcher.worker.data.text_files import text_chunks

__all__ = ["Chunk", "Raw", "chunks", "fingerprint", "local_files", "read"]


def local_files(placed: str | Sequence[str]) -> tuple[Path, ...]:
    """The files behind one entry of the placement; a folder stands for the data files in it, in the order of their names."""
    paths = [Path(placed)] if isinstance(placed, str) else [Path(path) for path in placed]
    inside = (data_files.in_folder(path) if path.is_dir() else [path] for path in paths)
    return tuple(file for files in inside for file in files)


def chunks(source: SourcePlan, files: Sequence[Path] | None) -> Iterator[Chunk]:
    """The rows of one source in order, at most `max_rows`, in pieces that can be read anywhere and in any order.

    Where a chunk ends depends on the source alone, so that what is done for a chunk is done for good.

    Args:
        source: what to read.
        files: its files on this machine; None for a URL or a hub dataset.

    Raises:
        EnvironmentFault: a file is missing or changes while it is read, or a source cannot be reached.
        DataError: a file as a whole cannot be read.
    """
    found = _remote_chunks(source) if files is None else _local_chunks(files)
    return found if source.max_rows is None else first(found, source.max_rows)


def _remote_chunks(source: SourcePlan) -> Iterator[Chunk]:
    return url_chunks(source) if is_url(source.path) else hub_chunks(source)


def _local_chunks(files: Sequence[Path]) -> Iterator[Chunk]:
    return (chunk for file in files for chunk in _file_chunks(file))


def read(source: SourcePlan, files: Sequence[Path] | None) -> Iterator[Raw]:
    """The rows of `chunks`, one after another."""
    return (row for chunk in chunks(source, files) for row in chunk.rows())


def _file_chunks(file: Path) -> Iterator[Chunk]:
    with open_regular(file) as stream:
        found = kind(file.name)
        if found is None:
            raise DataError(f"{file}: unknown kind of file `{file.suffix}`", hint=f"data files end in {LISTED}")
        if found.suffix == ".parquet":
            yield from parquet_chunks(stream, str(file))
        elif found.suffix == ".arrow":
            yield from arrow_chunks(stream, str(file))
        else:
            yield from text_chunks(stream, found, str(file), file)
