"""The sets of one run: read, check, clean, split, mix, pack and write, with an account of every row that was left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from launcher.errors import DataError
from launcher.plan.types import SourcePlan
from launcher.runs.cache import Cache
from launcher.text import counted
from launcher.worker.data import account, contamination, duplicates
from launcher.worker.data.contamination import EvalRows
from launcher.worker.data.mixture import Mixed, generator, mix
from launcher.worker.data.packing import Packed, pack
from launcher.worker.data.progress import Progress
from launcher.worker.data.reading import Reader
from launcher.worker.data.shards import SourceRows
from launcher.worker.data.split import hold_out
from launcher.worker.data.usable import Usable, check, usable
from launcher.worker.data.write import Sequences, Written, sequences, unpacked, write
from launcher.worker.job import Job

Numbers = NDArray[np.int64]


class Builder:
    """Makes the sets of one run under its directory."""

    def __init__(self, job: Job, cache: Cache, files: Mapping[str, Any], progress: Progress) -> None:
        self.job = job
        self.data = job.plan.data
        self.progress = progress
        self.reader = Reader(job, cache, files, progress)
        self.removed: list[dict[str, str]] = []

    def build(self) -> dict[str, Any]:
        """Write all sets, the tokenizer and what was left out; returns the facts for `data.json`.

        Raises:
            DataError: rows, a source or a combination of settings cannot be used.
            EnvironmentFault: a source or the tokenizer cannot be read.
        """
        found = self._read()
        train = [found[source.label].source for source in self.data.sources]
        rows = {source.label: found[source.label].rows for source in train}
        rows, repeated = self._without_repeats(train, rows)
        rows, measured = self._split(found, rows)
        rows, leaked = self._without_leaks(train, rows, measured)
        mixed = self._mixed(found, rows)
        written = self._write_train(train, mixed)
        sets = {"train": written} | {
            f"eval-{label}": self._write_eval(label, parts) for label, parts in measured.items()
        }
        removed = {label: {**repeated[label], "contaminated": leaked[label]} for label in rows}
        self._write_removed()
        return {
            "template": self.reader.template_facts(),
            "sets": sets,
            "sources": account.sources(found, measured, removed, written, self.data.max_length),
            "mixture": account.mixture(mixed, self.data),
            "notes": [*self.reader.warnings, *account.warnings(found, removed, mixed)],
        }

    def work(self) -> dict[str, Any]:
        """What was tokenised for this, and what had been before."""
        return self.reader.work()

    def _read(self) -> dict[str, Usable]:
        """Every source, tokenised, with the rows that can be used; all faults of all sources are reported together."""
        own = [source for source in self.data.eval_sources if not source.held_out_from]
        read = {source.label: self.reader.read(source) for source in (*self.data.sources, *own)}
        found = {label: usable(rows, self._source(label), self.data) for label, rows in read.items()}
        check(list(found.values()), self.data, self.job.run_dir.bad_rows, self.job.plan.model.context_length)
        return found

    def _source(self, label: str) -> SourcePlan:
        return next(each for each in (*self.data.sources, *self.data.eval_sources) if each.label == label)

    def _without_repeats(
        self, train: list[SourceRows], rows: dict[str, Numbers]
    ) -> tuple[dict[str, Numbers], dict[str, dict[str, int]]]:
        counts: dict[str, dict[str, int]] = {label: {} for label in rows}
        kinds: dict[str, Callable[..., list[duplicates.Repeat]]] = {}
        if self.data.deduplicate != "none":
            kinds["duplicates"] = duplicates.exact
        if self.data.deduplicate == "near":
            kinds["near_duplicates"] = duplicates.near
        by_label = {source.label: source for source in train}
        for kind, find in kinds.items():
            self.progress.say(f"looking for {kind.replace('_', ' ')}")
            again = find(train, rows)
            for each in again:
                of = by_label[each.of_label].place(each.of_row)
                self._remove(by_label[each.label], each.row, kind.removesuffix("s").replace("_", " "), of)
            rows, gone = _less(rows, [(each.label, each.row) for each in again])
            for label, number in gone.items():
                counts[label][kind] = number
        return rows, counts

    def _split(
        self, found: dict[str, Usable], rows: dict[str, Numbers]
    ) -> tuple[dict[str, Numbers], dict[str, list[EvalRows]]]:
        """What is left to train, and the rows of each eval set."""
        wanted = [each for each in self.data.eval_sources if each.held_out_from]
        groups = {label: found[label].source.groups if self.reader.group_of(label) else None for label in rows}
        left, held = hold_out(rows, groups, wanted, self.data.mixture.seed)
        measured: dict[str, list[EvalRows]] = {}
        for each in self.data.eval_sources:
            if each.held_out_from:
                parts = [EvalRows(each.label, found[label].source, taken) for label, taken in held[each.label].items()]
            else:
                parts = [EvalRows(each.label, found[each.label].source, found[each.label].rows)]
            measured[each.label] = parts
        return left, measured

    def _without_leaks(
        self, train: list[SourceRows], rows: dict[str, Numbers], measured: dict[str, list[EvalRows]]
    ) -> tuple[dict[str, Numbers], dict[str, int]]:
        parts = [part for each in measured.values() for part in each]
        if not parts or not self.data.decontaminate:
            return rows, dict.fromkeys(rows, 0)
        self.progress.say("comparing training rows with the eval sets")
        leaked = contamination.leaks(train, rows, parts)
        by_label = {source.label: source for source in train}
        for leak in leaked:
            of = f"eval set `{leak.measured.label}`, {leak.measured.source.place(leak.eval_row)}"
            self._remove(by_label[leak.label], leak.row, "contaminated", of)
        left, gone = _less(rows, [(leak.label, leak.row) for leak in leaked])
        empty = next((label for label in left if not len(left[label]) and gone[label]), None)
        if empty is not None:
            first = next(each for each in self.removed if each["source"] == empty and each["reason"] == "contaminated")
            raise DataError(
                f"{first['place']}: no row of source `{empty}` is left to train: each is in an eval set too, this one as {first['of']}",
                hint="hold rows out with `from:` and `fraction:`, or train on other rows than are measured",
            )
        return left, gone

    def _mixed(self, found: dict[str, Usable], rows: dict[str, Numbers]) -> Mixed:
        """Rows of one pass, by their number in the source.

        Raises:
            DataError: a share is asked of a source of which nothing is left.
        """
        weighted = self.data.mixture.temperature is not None or any(source.weight for source in self.data.sources)
        empty = next((label for label, each in rows.items() if not len(each)), None)
        if empty is not None and (weighted or not any(map(len, rows.values()))):
            first = next(each for each in self.removed if each["source"] == empty)
            raise DataError(
                f"{first['place']}: no row of source `{empty}` is left to train: this one is removed as {first['reason']}, it repeats {first['of']}",
                hint="remove the source, or keep its rows with `data.deduplicate: none`",
            )
        lengths = {label: self._cut(found[label].source.lengths[each]) for label, each in rows.items()}
        mixed = mix(lengths, self.data.mixture, self.data.sources)
        parts = {label: replace(part, rows=rows[label][part.rows]) for label, part in mixed.parts.items()}
        return Mixed(parts, mixed.limited_by)

    def _cut(self, lengths: NDArray[np.int32]) -> NDArray[np.int32]:
        """Lengths as they are trained: `bfd_split` and `wrapped` keep what is beyond `max_length`."""
        keeps_all = self.data.packing and self.data.packing_strategy != "bfd"
        return lengths if keeps_all else np.minimum(lengths, self.data.max_length).astype(np.int32)

    def _write_train(self, train: list[SourceRows], mixed: Mixed) -> dict[str, Any]:
        taken = sequences(train, [mixed.parts[source.label].rows for source in train])
        if len(train) > 1:  # one source keeps the order of its file; the trainer shuffles either way
            taken = taken.take(generator(self.data.mixture.seed, "order").permutation(len(taken)))
        plan, packed = self._plan(taken)
        fillers = -len(plan.ends) % self.job.plan.batch.global_size
        pad = self.reader.tokenizer.pad_token_id
        self.progress.say(f"writing {counted(len(plan.ends), 'row')}")
        folder = self.job.run_dir.prepared("train")
        written = write(folder, taken, plan, packed=packed, fillers=fillers, pad=pad)
        _write_origin(folder, taken, plan)
        facts = account.written(written, taken, plan)
        packing = self.data.packing_strategy if packed else None
        capacity = written.rows * self.data.max_length
        fill = round(written.tokens / capacity, 6) if packed else None
        return {**facts, "packing": packing, "max_length": self.data.max_length, "fill": fill}

    def _plan(self, taken: Sequences) -> tuple[Packed, bool]:
        if not self.data.packing:
            return unpacked(taken.length, self.data.max_length), False
        self.progress.say(f"packing {counted(len(taken), 'row')}")
        return pack(taken.length, self.data.max_length, self.data.packing_strategy), True  # type: ignore[arg-type]

    def _write_eval(self, label: str, parts: list[EvalRows]) -> dict[str, Any]:
        taken = sequences([part.source for part in parts], [part.rows for part in parts])
        plan = unpacked(taken.length, self.data.max_length)
        folder = self.job.run_dir.prepared(f"eval-{label}")
        written: Written = write(folder, taken, plan, packed=False)
        _write_origin(folder, taken, plan)
        if label in {each.dataset for each in self.job.plan.evaluation.generate}:
            asked = (part.source.question(int(row)) for part in parts for row in part.rows)
            lines = (json.dumps(asdict(each), ensure_ascii=False) + "\n" for each in asked if each is not None)
            self.job.run_dir.prepared(f"generate-{label}.jsonl").write_text("".join(lines), encoding="utf-8")
        return account.written(written, taken, plan)

    def _remove(self, source: SourceRows, row: int, reason: str, of: str) -> None:
        self.removed.append({"source": source.label, "place": source.place(row), "reason": reason, "of": of})

    def _write_removed(self) -> None:
        if self.removed:
            lines = (json.dumps(each, ensure_ascii=False) + "\n" for each in self.removed)
            self.job.run_dir.removed_rows.write_text("".join(lines), encoding="utf-8")


def _less(rows: dict[str, Numbers], gone: list[tuple[str, int]]) -> tuple[dict[str, Numbers], dict[str, int]]:
    """The rows without those named, and how many each source lost."""
    by_label: dict[str, list[int]] = {label: [] for label in rows}
    for label, row in gone:
        by_label[label].append(row)
    left = {label: np.setdiff1d(each, np.array(by_label[label], np.int64)) for label, each in rows.items()}
    return left, {label: len(rows[label]) - len(left[label]) for label in rows}


def _write_origin(folder: Path, taken: Sequences, plan: Packed) -> None:
    """Where each piece of each row comes from: number of its source (its label, its folder in the cache), and its row there.

    Row r is pieces ends[r-1]:ends[r].
    """
    source, row = taken.source[plan.sequence], taken.row[plan.sequence]
    labels = np.array([each.label for each in taken.sources])
    folders = np.array([each.folder.name for each in taken.sources])
    np.savez(folder / "origin.npz", source=source, row=row, ends=plan.ends, labels=labels, folders=folders)
