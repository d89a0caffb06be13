"""Text files, in whatever they are wrapped: compression, one JSON array, tables; lines as byte ranges or as blocks."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from launcher.errors import DataError
from launcher.plan.data_kinds import DELIMITERS, Kind, compression, is_array, wide_encoding
from launcher.text import gib
from launcher.worker.data.csv_rows import csv_rows
from launcher.worker.data.json_rows import json_array
from launcher.worker.data.lines import LineBlock, LineRange, require_same_size
from launcher.worker.data.raw import CHUNK_BYTES, LARGEST_VALUE_BYTES, Chunk, carried, reading

_HEAD_BYTES = 4096

LEAST_RANGE_BYTES, MOST_RANGE_BYTES = 2**18, 2**24


def text_chunks(stream: io.BufferedReader, kind: Kind, name: str, path: Path | None) -> Iterator[Chunk]:
    """Rows of one text file.

    Args:
        stream: the file at its start.
        kind: what its name says; its first bytes have the last word on the compression.
        name: the file, as a place names it.
        path: where a worker process can open it again; None: what is read here is carried in the chunks.

    Raises:
        DataError: it cannot be read as a whole.
        EnvironmentFault: it could be read no further.
    """
    with reading(name):
        packed = compression(stream.peek(_HEAD_BYTES)[:_HEAD_BYTES])
        if kind.packed and packed != kind.packed and stream.peek(1):
            raise DataError(f"{name}: is not compressed with {kind.packed}", hint="name it after what it holds")
        text = _unpacked(stream, packed) if packed else stream
        opening = text.peek(_HEAD_BYTES)[:_HEAD_BYTES]
        _refuse_wide(opening, name)
        if is_array(opening, kind.suffix):
            yield from carried(f"{name}: row ", json_array(name, _all(text, name)))
        elif kind.suffix in DELIMITERS:
            yield from carried(f"{name}:", csv_rows(text, name, DELIMITERS[kind.suffix]))
        elif packed or path is None:
            yield from _carried_lines(text, kind.suffix, name)
        else:
            yield from _ranges(stream, kind.suffix, name, path)


def _unpacked(stream: BinaryIO, packed: str) -> io.BufferedReader:
    import pyarrow as pa

    return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), packed), CHUNK_BYTES)


def _refuse_wide(head: bytes, name: str) -> None:
    if found := wide_encoding(head):
        spoken = found.upper().removesuffix("LE").removesuffix("BE")
        raise DataError(f"{name}: is in {spoken}, not UTF-8", hint=f"convert it: `iconv -f {found} -t utf-8 OLD > NEW`")


def _blocks(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """About 4 MiB each, ending where a line ends."""
    parts: list[bytes] = []
    while block := stream.read(CHUNK_BYTES):
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join([*parts, block[:end]])
            parts = [block[end:]]
        else:
            parts.append(block)
            _refuse_long(len(parts) * CHUNK_BYTES, name)
    if any(parts):
        yield b"".join(parts)


def _all(stream: BinaryIO, name: str) -> bytes:
    data = stream.read(LARGEST_VALUE_BYTES + 1)
    if len(data) > LARGEST_VALUE_BYTES:
        raise DataError(
            f"{name}: is one JSON array of more than {gib(LARGEST_VALUE_BYTES)}, which is held in memory whole",
            hint="write one row a line: `jq -c '.[]' OLD > NEW.jsonl`",
        )
    return data


def _refuse_long(size: int, name: str) -> None:
    if size > LARGEST_VALUE_BYTES:
        raise DataError(f"{name}: has a line of more than {gib(LARGEST_VALUE_BYTES)}")


def _carried_lines(stream: BinaryIO, suffix: str, name: str) -> Iterator[LineBlock]:
    number = 1
    for block in _blocks(stream, name):
        yield LineBlock(f"{name}:", block, suffix, number)
        number += block.count(b"\n")


def _ranges(stream: BinaryIO, suffix: str, name: str, path: Path) -> Iterator[LineRange]:
    size = os.fstat(stream.fileno()).st_size
    usual = _range_bytes(size)
    start, number, length = 0, 1, usual
    while start < size:
        stream.seek(start)
        block = stream.read(min(length, size - start))
        require_same_size(name, size, os.fstat(stream.fileno()).st_size)
        end = _end(block, last=start + length >= size, grown=length > usual)
        if not end:
            length *= 2
            _refuse_long(length, name)
            continue
        yield LineRange(f"{name}:", str(path), suffix, start, start + end, size, number)
        start, number, length = start + end, number + block.count(b"\n", 0, end), usual


def _range_bytes(size: int) -> int:
    """A 64th of a file, so that a small one is shared out too, and a large one does not become too many shards."""
    return min(MOST_RANGE_BYTES, max(LEAST_RANGE_BYTES, size // 64))


def _end(block: bytes, *, last: bool, grown: bool) -> int:
    """Where a range ends: behind the last whole line, or behind the first where that alone is longer than a range."""
    if grown:
        return block.find(b"\n") + 1 or (len(block) if last else 0)
    return len(block) if last else block.rfind(b"\n") + 1
