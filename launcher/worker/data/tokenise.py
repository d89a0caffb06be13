"""From a source to tokenised shards: once for its contents, by several processes, continued where it was interrupted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from launcher.errors import DataError, EnvironmentFault
from launcher.plan.formats import Layout
from launcher.plan.types import LossOn
from launcher.runs.files import read_json
from launcher.worker.data.encode import Encoded, Encoder, Question
from launcher.worker.data.examples import BadRowError, Example, example
from launcher.worker.data.shards import Draft
from launcher.worker.data.sources import Chunk, Raw
from launcher.worker.process import die_with_parent

Progress = Callable[["Count"], None]
_ROWS_AT_ONCE = 256
MOST_BAD_ROWS = 1000
"""Where bad rows stop the run, reading ends after so many. All chunks before that place are done, in any order."""


@dataclass
class Count:
    """What was done for one source so far. The `new_` figures leave out what an earlier start had finished."""

    rows: int = 0
    tokens: int = 0
    bad: int = 0
    bytes: int = 0
    new_rows: int = 0
    new_bad: int = 0
    new_tokens: int = 0

    def add(self, part: dict[str, Any], *, new: bool) -> None:
        """Count one shard."""
        self.rows += part["rows"]
        self.tokens += part["tokens"]
        self.bad += len(part["bad"])
        self.bytes += part["bytes"]
        if new:
            self.new_rows += part["rows"]
            self.new_bad += len(part["bad"])
            self.new_tokens += part["tokens"]


@dataclass(frozen=True)
class Work:
    """All that one row of a source needs to become tokens. Processes inherit it when they are forked."""

    folder: Path
    layout: Layout
    encoder: Encoder
    loss_on: LossOn
    special: Any = None
    """Pattern of the control tokens that no message may hold."""
    group_by: str | None = None
    ask: bool = False

    def shard(self, number: int, chunk: Chunk) -> dict[str, Any]:
        """Tokenise a chunk and write its shard; returns the facts beside it.

        Raises:
            DataError: the whole source cannot be used.
            EnvironmentFault: it cannot be read, or the shard not be written.
        """
        draft, bad = Draft(), list[list[Any]]()
        rows = chunk.rows()
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            self._add(batch, draft, bad)
        return draft.write(self.folder / f"{number:08d}.arrow", {"file": chunk.file, "bytes": chunk.covers, "bad": bad})

    def _add(self, batch: list[Raw], draft: Draft, bad: list[list[Any]]) -> None:
        usable: list[tuple[Raw, Example, int | None]] = []
        faults: dict[int, str] = {}
        for row in batch:
            try:
                usable.append((row, example(row, self.layout, special=self.special), self._group(row)))
            except BadRowError as fault:
                faults[row.number] = str(fault)
        made = self._encoded(usable)
        for (row, each, group), encoded in zip(usable, made, strict=True):
            question = self._question(each) if self.ask else None
            fault_ = next((found for found in (encoded, question) if isinstance(found, BadRowError)), None)
            if fault_ is not None:
                faults[row.number] = str(fault_)
            else:
                draft.add(encoded, row.number, group, question)  # type: ignore[arg-type]
        bad.extend([number, faults[number]] for number in sorted(faults))

    def _encoded(self, usable: list[tuple[Raw, Example, int | None]]) -> list[Encoded | BadRowError]:
        try:
            return self.encoder.encode([each for _, each, _ in usable], self.loss_on)
        except DataError as fault:
            if len(usable) > 1:  # the whole source cannot be used; say which row shows it
                return [made for one in usable for made in self._encoded([one])]
            raise DataError(f"{usable[0][0].place}: {fault.message}", hint=fault.hint) from None

    def _question(self, each: Example) -> Question | BadRowError:
        try:
            return self.encoder.question(each)
        except BadRowError as fault:
            return fault

    def _group(self, row: Raw) -> int | None:
        if self.group_by is None:
            return None
        if row.values.get(self.group_by) is None:
            raise BadRowError(f"has no `{self.group_by}`, by which rows are kept together (`group_by`)")
        digest = hashlib.blake2b(str(row.values[self.group_by]).encode(), digest_size=8)
        return int.from_bytes(digest.digest(), "little")


@dataclass
class Tokeniser:
    """Makes the shards of one source, `processes` at a time."""

    work: Work
    processes: int
    stop_at_bad: bool
    progress: Progress
    count: Count = field(default_factory=Count)
    ended_early: bool = False
    """Reading ended at the most bad rows: the shards are not all of the source."""

    def run(self, chunks: Iterator[Chunk]) -> Count:
        """Tokenise every chunk that has no shard yet.

        Raises:
            DataError: the whole source cannot be used.
            EnvironmentFault: it cannot be read; or a process was killed.
        """
        self.work.folder.mkdir(parents=True, exist_ok=True)
        todo = self._unfinished(enumerate(chunks))
        if self.processes == 1:
            for number, chunk in todo:
                self._done(self.work.shard(number, chunk), new=True)
                if self.ended_early:
                    break
        else:
            self._in_parallel(todo)
        return self.count

    def _unfinished(self, numbered: Iterator[tuple[int, Chunk]]) -> Iterator[tuple[int, Chunk]]:
        for number, chunk in numbered:
            if self.ended_early:
                return
            known = read_json(self.work.folder / f"{number:08d}.json")
            if known is None:
                yield number, chunk
            else:
                self._done(known, new=False)

    def _done(self, part: dict[str, Any], *, new: bool) -> None:
        self.count.add(part, new=new)
        self.progress(self.count)
        self.ended_early = self.stop_at_bad and self.count.bad >= MOST_BAD_ROWS

    def _in_parallel(self, todo: Iterator[tuple[int, Chunk]]) -> None:
        _inherited.append(self.work)
        pool = ProcessPoolExecutor(self.processes, get_context("fork"), _begin, (os.getpid(),))
        try:
            running: set[Future[dict[str, Any]]] = set()
            for number, chunk in todo:
                running.add(pool.submit(_shard, number, chunk))
                if len(running) >= 2 * self.processes:
                    running = self._collect(running)
                if self.ended_early:
                    break
            while running:
                running = self._collect(running)
        except BrokenProcessPool:
            raise EnvironmentFault(
                "a process that tokenises was killed; the machine was probably out of memory",
                hint="lower `data.num_proc`; the same command goes on where it was",
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            _inherited.clear()

    def _collect(self, running: set[Future[dict[str, Any]]]) -> set[Future[dict[str, Any]]]:
        done, rest = wait(running, return_when=FIRST_COMPLETED)
        for each in done:
            self._done(each.result(), new=True)
        return set(rest)


_inherited: list[Work] = []
"""How forked processes get what cannot be pickled."""


def _begin(parent: int) -> None:
    die_with_parent(parent)


def _shard(number: int, chunk: Chunk) -> dict[str, Any]:
    return _inherited[0].shard(number, chunk)
