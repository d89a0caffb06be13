"""Columnar files (parquet, arrow): batches decoded in order by one reader, turned into rows where the chunk is sent to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from launcher.errors import DataError
from launcher.worker.data.raw import AGAIN, CHUNK_BYTES, CHUNK_ROWS, Raw, at_most, reading

_PARQUET = b"PAR1"
_ARROW = b"ARROW1"


@dataclass(frozen=True)
class Batch:
    """Rows as an Arrow stream of one batch. `nested` are the columns whose objects all have the keys of all others."""

    file: str
    number: int
    size: int
    data: bytes
    nested: tuple[str, ...]
    most: int | None = None
    covers = 0

    def rows(self) -> Iterator[Raw]:
        """See Chunk."""
        return at_most(self._rows(), self.most)

    def _rows(self) -> Iterator[Raw]:
        import pyarrow as pa

        table = pa.ipc.open_stream(self.data).read_all()
        for number, (values, fault) in enumerate(_values(table), self.number):
            for name in self.nested:
                if name in values:
                    values[name] = without_none(values[name])
            yield Raw(f"{self.file}{number}", number, values, fault)

    def count(self) -> int:
        """See Chunk."""
        return self.size

    def cut(self, most: int) -> Batch:
        """See Chunk."""
        return replace(self, most=most, size=most)


def without_none(value: Any) -> Any:
    """A nested value without the keys that are None: in a column every object has the keys of all others."""
    if isinstance(value, dict):
        return {key: without_none(inner) for key, inner in value.items() if inner is not None}
    return [without_none(inner) for inner in value] if isinstance(value, list) else value


def _values(table: Any) -> Iterator[tuple[dict[str, Any], str | None]]:
    try:
        yield from ((values, None) for values in table.to_pylist())
    except (ValueError, OverflowError):  # one cell that Python cannot hold hides the others
        for number in range(table.num_rows):
            yield _one(table.slice(number, 1))


def _one(table: Any) -> tuple[dict[str, Any], str | None]:
    values = {}
    for name in table.column_names:
        try:
            values[name] = table[name][0].as_py()
        except UnicodeDecodeError as fault:
            return {}, f"column `{name}` is not UTF-8 (byte {fault.start + 1})"
        except (ValueError, OverflowError) as fault:
            return {}, f"column `{name}` cannot be read: {fault}"
    return values, None


def parquet_chunks(stream: BinaryIO, name: str) -> Iterator[Batch]:
    """Batches of at most 2,000 rows and about 4 MiB, row group after row group.

    Raises:
        DataError: it is no parquet file, or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with reading(name):
        _require_parquet(stream, name)
    try:
        file = pq.ParquetFile(stream)
        number = 1
        for group in range(file.metadata.num_row_groups):
            facts = file.metadata.row_group(group)
            batches = file.iter_batches(_fitting(facts.num_rows, facts.total_byte_size), row_groups=[group])
            for chunk in _chunks(batches, f"{name}: row ", number):
                yield chunk
                number += chunk.size
    except (pa.ArrowException, OSError) as fault:
        raise DataError(f"{name}: cannot be read as parquet: {_line(fault)}", hint=AGAIN) from None


def _require_parquet(stream: BinaryIO, name: str) -> None:
    head = stream.read(len(_PARQUET))
    size = stream.seek(0, 2)
    stream.seek(max(0, size - len(_PARQUET)))
    tail = stream.read(len(_PARQUET))
    stream.seek(0)
    if head != _PARQUET:
        raise DataError(f"{name}: is no parquet file: it does not start with PAR1", hint="name it after what it holds")
    if tail != _PARQUET or size < 12:
        raise DataError(f"{name}: the file looks cut: it does not end with PAR1", hint=AGAIN)


def arrow_chunks(stream: BinaryIO, name: str) -> Iterator[Batch]:
    """Batches of an Arrow file or stream (`datasets` writes streams), cut to 2,000 rows and about 4 MiB.

    Raises:
        DataError: it is neither, or damaged.
    """
    import pyarrow as pa

    try:
        is_file = stream.read(len(_ARROW)) == _ARROW
        stream.seek(0)
        yield from _chunks(_file_batches(stream) if is_file else pa.ipc.open_stream(stream), f"{name}: row ", 1)
    except (pa.ArrowException, OSError) as fault:
        raise DataError(f"{name}: cannot be read as arrow: {_line(fault)}", hint=AGAIN) from None


def _file_batches(stream: BinaryIO) -> Iterator[Any]:
    import pyarrow as pa

    file = pa.ipc.open_file(stream)
    return (file.get_batch(number) for number in range(file.num_record_batches))


def _chunks(batches: Any, file: str, number: int) -> Iterator[Batch]:
    for batch in batches:
        nested = tuple(field.name for field in batch.schema if _holds_objects(field.type))
        step = _fitting(batch.num_rows, batch.nbytes)
        for start in range(0, batch.num_rows, step):
            part = batch.slice(start, step)
            yield Batch(file, number, part.num_rows, _stream(part), nested)
            number += part.num_rows


def _fitting(rows: int, size_bytes: int) -> int:
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES * rows // max(1, size_bytes)))


def _stream(batch: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def _holds_objects(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return True
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(each(kind) for each in lists) and _holds_objects(kind.value_type)


def _line(fault: Exception) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0]
