"""Some prepared rows as text, with the tokens that are trained told apart: what the collator hands the trainer, readable."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from launcher.errors import EnvironmentFault
from launcher.runs import cache as caches
from launcher.runs.files import read_json
from launcher.worker.job import Job

Decode = Callable[[Sequence[int]], str]
Numbers = NDArray[np.int64]

_IGNORED = -100
_CONTEXT = 4
"""Tokens decoded in front of a piece of text, so that it keeps its blanks; more are never joined in one letter."""


def look(job: Job, *, rows: int, source: str | None = None) -> dict[str, Any]:
    """A few rows of each training source and of each eval set, the same ones for the same data and seed.

    Args:
        job: a run whose data is prepared.
        rows: how many of each.
        source: only rows of this training source or eval set.

    Returns:
        `rows`, each with `set`, `number`, `source`, `length`, `trained` and `examples`; an example has `source`,
        `place`, `length`, `trained` and `segments`: [trained, text] in order. `notes`: what could not be told.

    Raises:
        EnvironmentFault: the rows or the tokenizer are not there.
    """
    facts = job.data_facts()
    decode = decoder(job.run_dir.tokenizer)
    found: list[dict[str, Any]] = []
    notes: list[str] = []
    for name, each in facts["sets"].items():
        one = PreparedSet(job.run_dir.prepared(name), int(each["rows"]), caches.of_run(job.run_dir).root / "sources")
        if name == "train" and not one.labels:
            notes.append("which source a row is from was not noted: `--source` cannot choose among training rows")
        for label, candidates in _groups(name, one):
            if source in (None, label):
                chosen = _chosen(candidates, rows, f"{job.plan.data.mixture.seed}/{name}/{label}")
                found += [{"set": name, "source": label, **one.row(number, decode)} for number in chosen]
    return {"rows": found, "notes": notes}


class PreparedSet:
    """The rows of one prepared set, read where they lie."""

    def __init__(self, folder: Path, rows: int, sources: Path | None = None) -> None:
        state = read_json(folder / "state.json")
        if state is None:
            raise EnvironmentFault(f"{folder} holds no prepared rows", hint="run the stage `prepare`")
        files = [folder / str(each["filename"]) for each in state["_data_files"]]
        self.table = pa.concat_tables([pa.ipc.open_stream(pa.memory_map(str(file))).read_all() for file in files])
        self.rows = rows
        """Rows without the fillers behind them."""
        self._sources = sources
        self._origin: dict[str, Any] = {}
        if (folder / "origin.npz").exists():
            with np.load(folder / "origin.npz") as stored:
                self._origin = {key: stored[key] for key in stored.files}

    @property
    def labels(self) -> list[str]:
        """Sources that its rows come from; empty where that was not noted."""
        return [str(label) for label in self._origin.get("labels", ())]

    def rows_of(self, label: str) -> Numbers:
        """[N] numbers of the rows that hold something of a source."""
        mine = np.flatnonzero(self._origin["source"] == self.labels.index(label))
        return np.unique(np.searchsorted(self._origin["ends"], mine, side="right"))

    def row(self, number: int, decode: Decode) -> dict[str, Any]:
        """One row: its examples in order, each as pieces of text that are trained or not."""
        values = self.table.slice(number, 1).to_pylist()[0]
        ids, trained = np.array(values["input_ids"]), trained_tokens(values)
        ends = np.cumsum(values.get("seq_lengths") or [len(ids)])
        origins = self.origins(number)
        examples = []
        for piece, (first, last) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            where = origins[piece] if piece < len(origins) else (None, None)
            part = slice(int(first), int(last))
            examples.append(
                {"source": where[0], "place": where[1], "length": int(last - first), "trained": int(trained[part].sum()),
                 "segments": [[bool(on), text] for on, text in segments(ids[part], trained[part], decode)]}
            )  # fmt: skip
        return {"number": number, "length": len(ids), "trained": int(trained.sum()), "examples": examples}

    def origins(self, number: int) -> list[tuple[str, str | None]]:
        """Source and place of each example of a row, in order; empty where that was not noted."""
        if not self._origin:
            return []
        ends = self._origin["ends"]
        pieces = range(int(ends[number - 1]) if number else 0, int(ends[number]))
        return [self._place(int(self._origin["source"][each]), int(self._origin["row"][each])) for each in pieces]

    def _place(self, source: int, row: int) -> tuple[str, str | None]:
        shards = self._shards.get(source)
        return self.labels[source], None if shards is None else shards.place(row)

    @cached_property
    def _shards(self) -> dict[int, Any]:
        """Number of a source → its tokenised rows in the cache, where they still are."""
        from launcher.worker.data.shards import SourceRows

        folders = [self._sources / str(name) for name in self._origin.get("folders", ())] if self._sources else []
        there = {number: folder for number, folder in enumerate(folders) if (folder / "facts.json").exists()}
        return {number: SourceRows(self.labels[number], folder) for number, folder in there.items()}


def trained_tokens(row: dict[str, Any]) -> NDArray[np.bool_]:
    """[T] tokens that the loss is taken on: labelled, and not the first of an example, which nothing predicts."""
    trained: NDArray[np.bool_] = np.array(row["labels"]) != _IGNORED
    ends = np.cumsum(row.get("seq_lengths") or [len(trained)])
    trained[[0, *ends[:-1]]] = False
    return trained


def segments(ids: Numbers, trained: NDArray[np.bool_], decode: Decode) -> Iterator[tuple[bool, str]]:
    """The text of an example in pieces that are trained as a whole or not at all."""
    borders = [0, *(np.flatnonzero(np.diff(trained)) + 1).tolist(), len(ids)]
    for first, last in pairwise(borders):
        if last > first:
            yield bool(trained[first]), _text(ids, first, last, decode)


def decoder(folder: Path) -> Decode:
    """The run's tokenizer as a function from ids to text, special tokens included.

    Raises:
        EnvironmentFault: there is none.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise EnvironmentFault(f"{file} is missing: the rows cannot be read", hint="run the stage `prepare`")
    tokenizer = Tokenizer.from_file(str(file))
    return lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=False))


def _text(ids: Numbers, first: int, last: int, decode: Decode) -> str:
    """Text of some tokens as it stands among its neighbours: alone, some tokenizers drop its leading blank."""
    begin = max(0, first - _CONTEXT)
    before, whole = decode(ids[begin:first].tolist()), decode(ids[begin:last].tolist())
    return whole[len(before) :] if whole.startswith(before) else decode(ids[first:last].tolist())


def _groups(name: str, one: PreparedSet) -> Iterator[tuple[str | None, Numbers]]:
    """What rows are chosen from: the sources of the training set, and each eval set as a whole."""
    if name != "train":
        yield name.removeprefix("eval-"), np.arange(one.rows)
    elif not one.labels:
        yield None, np.arange(one.rows)
    else:
        yield from ((label, one.rows_of(label)) for label in one.labels)


def _chosen(candidates: Numbers, number: int, seed: str) -> list[int]:
    return sorted(random.Random(seed).sample(candidates.tolist(), min(number, len(candidates))))  # noqa: S311
