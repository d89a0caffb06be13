"""Tokenised rows of one source on disk: Arrow files of some thousand rows each, and an index of all rows in memory.

Memory holds about 45 bytes for each row and no token; tokens are read from the mapped files where they are needed.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from launcher.runs.files import read_json, write_json
from launcher.worker.data.encode import Encoded, Question

_SCHEMA = pa.schema(
    [
        ("ids", pa.list_(pa.int32())),
        ("spans", pa.list_(pa.int32())),  # start, end, start, end, … of what is trained
        ("first", pa.int32()),  # the first token that is predicted and trained
        ("number", pa.int64()),  # line or row in its file
        ("key", pa.binary(16)),  # 128 bits of the hash of the ids: equal rows, equal keys
        ("group", pa.uint64()),  # hash of the value that keeps rows together, where a split asks for one
        ("question", pa.string()),  # JSON of a Question, where answers will be generated
    ]
)


class Draft:
    """Rows of one chunk, before they are written."""

    def __init__(self) -> None:
        self.ids, self.ends = array("i"), array("i", [0])
        self.spans, self.span_ends = array("i"), array("i", [0])
        self.first, self.number = array("i"), array("q")
        self.keys = bytearray()
        self.groups: list[int | None] = []
        self.questions: list[str | None] = []
        self.trained = 0

    def add(self, row: Encoded, number: int, group: int | None, question: Question | None) -> None:
        """Append one row."""
        ids = array("i", row.ids)
        self.ids.extend(ids)
        self.ends.append(len(self.ids))
        for start, end in row.spans:
            self.spans.extend((start, end))
            self.trained += end - start
        self.span_ends.append(len(self.spans))
        self.first.append(row.first_trained)
        self.number.append(number)
        self.keys += hashlib.blake2b(ids.tobytes(), digest_size=16).digest()
        self.groups.append(group)
        self.questions.append(None if question is None else json.dumps(vars(question), ensure_ascii=False))

    def write(self, path: Path, facts: dict[str, Any]) -> dict[str, Any]:
        """Write `path` (Arrow) and, when that is whole, the facts beside it (JSON), which count the shard as done."""
        rows = len(self.number)
        columns = [
            pa.ListArray.from_arrays(_numbers(self.ends), _numbers(self.ids)),
            pa.ListArray.from_arrays(_numbers(self.span_ends), _numbers(self.spans)),
            _numbers(self.first),
            _numbers(self.number),
            pa.Array.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(bytes(self.keys))]),
            pa.array(self.groups, pa.uint64()),
            pa.array(self.questions, pa.string()),
        ]
        draft = path.with_suffix(".tmp")
        with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
            writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))
        draft.replace(path)
        facts = {**facts, "rows": rows, "tokens": len(self.ids), "trained": self.trained}
        write_json(path.with_suffix(".json"), facts)
        return facts


def _numbers(values: array[int]) -> Any:
    return pa.array(np.frombuffer(values, dtype=np.dtype(values.typecode)))


@dataclass(frozen=True)
class Bad:
    """A row that cannot be used."""

    source: str
    place: str
    reason: str


class Shard:
    """One mapped file of rows."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self.table = pa.ipc.open_file(pa.py_buffer(self._map)).read_all()

    def column(self, name: str) -> Any:
        """One column as an Arrow array."""
        chunks = self.table.column(name).chunks
        return chunks[0] if chunks else pa.array([], _SCHEMA.field(name).type)

    def lists(self, name: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """All values of a list column one behind the other, and where each row's begin and end ([rows + 1])."""
        column = self.column(name)
        return column.values.to_numpy(), column.offsets.to_numpy()

    @cached_property
    def ids(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Token ids and their row borders."""
        return self.lists("ids")

    @cached_property
    def spans(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Trained spans and their row borders."""
        return self.lists("spans")

    def forget(self) -> None:
        """Let the system take back the pages that were read: memory must not grow with the data."""
        self._map.madvise(mmap.MADV_DONTNEED)


class SourceRows:
    """All tokenised rows of one source, numbered from 0 in their order."""

    def __init__(self, label: str, folder: Path) -> None:
        self.label = label
        self.folder = folder
        self.facts = read_json(folder / "facts.json") or {}
        self.shards = [Shard(path) for path in sorted(folder.glob("*.arrow"))]
        self._parts = [read_json(path) or {} for path in sorted(folder.glob("[0-9]*.json"))]
        self.starts = np.concatenate([[0], np.cumsum([shard.table.num_rows for shard in self.shards])]).astype(np.int64)
        """[shards + 1] number of the first row of each shard."""

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def whole(self) -> bool:
        """Whether the source was read to its end."""
        return (self.folder / "facts.json").exists()

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """[rows] tokens of each row, uncut."""
        return _joined([np.diff(shard.ids[1]) for shard in self.shards], np.int32)

    @cached_property
    def first(self) -> NDArray[np.int32]:
        """[rows] position of the first token that is predicted and trained."""
        return _joined([shard.column("first").to_numpy() for shard in self.shards], np.int32)

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """[rows, 2] hash of each row's tokens."""
        parts = [_bytes(shard.column("key"), 16).view(np.uint64).reshape(-1, 2) for shard in self.shards]
        return np.concatenate(parts) if parts else np.empty((0, 2), np.uint64)

    @cached_property
    def groups(self) -> NDArray[np.uint64]:
        """[rows] hash of the value that keeps rows together."""
        parts = [shard.column("group").to_numpy(zero_copy_only=False) for shard in self.shards]
        return _joined(parts, np.uint64)

    def bad(self) -> Iterator[Bad]:
        """The rows that could not be used, in order."""
        for part in self._parts:
            yield from (Bad(self.label, f"{part['file']}{number}", reason) for number, reason in part["bad"])

    @property
    def number_read(self) -> int:
        """Rows read, the bad ones included."""
        return len(self) + sum(len(part["bad"]) for part in self._parts)

    @property
    def tokens(self) -> int:
        """Tokens of all rows, uncut."""
        return sum(part["tokens"] for part in self._parts)

    def place(self, row: int) -> str:
        """Where a row stands: `file:line`."""
        shard = int(np.searchsorted(self.starts, row, side="right")) - 1
        number = self.shards[shard].column("number")[row - int(self.starts[shard])].as_py()
        return f"{self._parts[shard]['file']}{number}"

    def question(self, row: int) -> Question | None:
        """What to ask for a row, where the source was read with questions."""
        shard = int(np.searchsorted(self.starts, row, side="right")) - 1
        text = self.shards[shard].column("question")[row - int(self.starts[shard])].as_py()
        return None if text is None else Question(**json.loads(text))


Number = TypeVar("Number", np.int32, np.uint64)


def _joined(parts: list[NDArray[Any]], kind: type[Number]) -> NDArray[Number]:
    return np.concatenate(parts).astype(kind, copy=False) if parts else np.empty(0, kind)


def _bytes(column: Any, width: int) -> NDArray[np.uint8]:
    """The values of a fixed-width binary column, one behind the other."""
    buffer = column.buffers()[1]
    return np.frombuffer(buffer, np.uint8)[column.offset * width : (column.offset + len(column)) * width]


def commit(folder: Path, facts: dict[str, Any]) -> None:
    """Say that the shards in `folder` are all of their source."""
    write_json(folder / "facts.json", facts)
