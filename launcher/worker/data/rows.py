"""Encoded rows in memory, four bytes a token, and the same as a `datasets.Dataset`."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from launcher.worker.data.encode import IGNORED, Encoded


class Rows:
    """Token ids and labels of many rows, one behind the other; row i is the tokens from end i-1 to end i."""

    def __init__(self) -> None:
        self.ids = array("i")
        self.labels = array("i")
        self.ends = array("q")

    def __len__(self) -> int:
        return len(self.ends)

    def add(self, row: Encoded) -> None:
        """Append one row."""
        labels = (token if trained else IGNORED for token, trained in zip(row.ids, row.trained, strict=True))
        self._append(row.ids, labels)

    def _append(self, ids: Sequence[int], labels: Iterable[int]) -> None:
        self.ids.extend(ids)
        self.labels.extend(labels)
        self.ends.append(len(self.ids))

    def bounds(self, number: int) -> slice:
        """Where row `number` stands in `ids` and `labels`."""
        return slice(self.ends[number - 1] if number else 0, self.ends[number])

    def key(self, number: int) -> bytes:
        """The row's tokens as bytes: equal rows, equal keys."""
        return self.ids[self.bounds(number)].tobytes()

    def take(self, numbers: Iterable[int]) -> Rows:
        """The rows with these numbers, in that order."""
        taken = Rows()
        for number in numbers:
            where = self.bounds(number)
            taken._append(self.ids[where], self.labels[where])
        return taken

    def extend(self, other: Rows) -> None:
        """Append all rows of `other`."""
        offset = len(self.ids)
        self.ids.extend(other.ids)
        self.labels.extend(other.labels)
        self.ends.extend(end + offset for end in other.ends)

    @property
    def trained(self) -> int:
        """Tokens that carry a label."""
        return len(self.labels) - self.labels.count(IGNORED)

    def fingerprint(self) -> str:
        """sha256 of all token ids, labels and row ends, in order."""
        digest = hashlib.sha256()
        for block in (self.ids, self.labels, self.ends):
            digest.update(block.tobytes())
        return digest.hexdigest()

    def dataset(self) -> Any:
        """The rows as a `datasets.Dataset` with `input_ids` and `labels`."""
        import datasets
        import numpy as np
        import pyarrow as pa

        ends = pa.array(np.concatenate([[0], np.asarray(self.ends, dtype=np.int64)]), pa.int32())
        columns = {
            name: pa.ListArray.from_arrays(ends, pa.array(np.asarray(values, dtype=np.int32)))
            for name, values in (("input_ids", self.ids), ("labels", self.labels))
        }
        return datasets.Dataset(pa.table(columns))


def packed(rows: Rows, max_length: int, strategy: str) -> Any:
    """Rows put together into rows of `max_length` tokens by TRL, with the column `seq_lengths` where examples stay apart."""
    from trl.data_utils import pack_dataset

    return pack_dataset(rows.dataset(), max_length, strategy)


def with_fillers(dataset: Any, multiple_of: int, pad: int) -> tuple[Any, int]:
    """Append rows of two pad tokens without labels until the number of rows divides, so that every epoch is whole batches.

    Returns:
        The dataset and the number of rows appended.
    """
    import datasets

    missing = -len(dataset) % multiple_of
    if not missing:
        return dataset, 0
    filler = {"input_ids": [pad, pad], "labels": [IGNORED, IGNORED], "seq_lengths": [2]}
    columns = {name: [filler[name]] * missing for name in dataset.column_names}
    return datasets.concatenate_datasets([dataset, datasets.Dataset.from_dict(columns, dataset.features)]), missing
