"""Sources as tokenised rows: from the cache where they are, made where they are not."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from launcher.errors import DataError, EnvironmentFault
from launcher.plan.formats import Layout
from launcher.plan.types import LossOn, SourcePlan
from launcher.recipe.formats import FORMATS
from launcher.runs.cache import Cache
from launcher.text import counted, gib
from launcher.worker.data import tokenizer_checks
from launcher.worker.data.chat import HELLO, ChatTemplate
from launcher.worker.data.encode import Encoder
from launcher.worker.data.examples import control_pattern, sniff
from launcher.worker.data.progress import Progress
from launcher.worker.data.shards import SourceRows, commit
from launcher.worker.data.sources import Chunk, Raw, chunks, local_files
from launcher.worker.data.tokenise import MOST_BAD_ROWS, Count, Tokeniser, Work
from launcher.worker.data.tokenizer import folder_hash, write_base, write_tokenizer
from launcher.worker.job import Job, sha256_json

SCHEMA = 2
_SHARD_BYTES, _ROW_BYTES = 4.5, 8.0
"""Bytes on disk for a token: in the cache as it was read, in the run as it is trained."""
_OUT_OF_KEY = {
    "label",
    "path",
    "weight",
    "max_epochs",
    "min_tokens",
    "max_tokens",
    "held_out_from",
    "fraction",
    "group_by",
}
"""Of a source's settings, what does not change its tokens; its files are known by their contents."""


class Reader:
    """Reads the sources of one run with its tokenizer."""

    def __init__(self, job: Job, cache: Cache, files: Mapping[str, Any], progress: Progress) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # processes share out the work, not threads
        self.job = job
        self.cache = cache
        self.files = files
        self.progress = progress
        self.warnings: list[str] = []
        self.processes = processes()
        self._work = {"tokenized_rows": 0, "tokenized_tokens": 0, "reused_rows": 0}
        self.tokenizer = write_tokenizer(job)
        self.template = ChatTemplate(self.tokenizer, dict(job.plan.data.template_kwargs))
        self._probed = False
        self._room_seen = False
        if job.plan.model.from_config is not None:
            write_base(job, self.tokenizer)
        self.warnings += tokenizer_checks.check(job, self.tokenizer)

    def read(self, source: SourcePlan) -> SourceRows:
        """All rows of one source, tokenised.

        Raises:
            DataError: the source cannot be used.
            EnvironmentFault: it cannot be read.
        """
        placed = self.job.placement.get(f"data.{source.label}")
        files = None if placed is None else local_files(placed)
        first, layout = self._layout(source, files)
        rule = loss_rule(self.job.plan.data.loss_on, layout)
        self._probe(layout)
        key = self._key(source, layout, rule)
        folder = self.cache.source(key)
        waiting = f"another run reads {source.label}; waiting for it"
        with self.cache.lock(key, lambda: self.progress.say(waiting)):
            if (folder / "facts.json").exists():
                rows = SourceRows(source.label, folder)
                self.progress.say(
                    f"{source.label}: {counted(len(rows), 'row')}, {rows.tokens:,} tokens, tokenised before"
                )
                self._work["reused_rows"] += rows.number_read
                return rows
            return self._tokenise(source, files, layout, rule, folder, first)

    def group_of(self, label: str) -> str | None:
        """The column that keeps rows of a training source together, where a held-out set names one."""
        held = [each for each in self.job.plan.data.eval_sources if each.held_out_from in ("all", label)]
        return next((each.group_by for each in held if each.group_by), None)

    def template_facts(self) -> dict[str, Any] | None:
        """How the assistant's part of conversations is found; None without conversations."""
        if not self._probed or self.tokenizer.chat_template is None:
            return None
        return {"how": self.template.how, "sha256": hashlib.sha256(self.template.own.encode()).hexdigest()}

    def _probe(self, layout: Layout) -> None:
        """Render one conversation before the rows are: a template that never ends must not hang the run."""
        if self._probed or layout.format not in ("messages", "sharegpt", "alpaca"):
            return
        self._probed = True
        try:
            tokenizer_checks.require_template(self.tokenizer)
            tokenizer_checks.render_with_limit(lambda: self.template.text(HELLO))
        except DataError as fault:
            where = tokenizer_checks.template_file(self.job)
            raise DataError(f"{where}: {fault.message}", hint=fault.hint) from None

    def work(self) -> dict[str, Any]:
        """Rows and tokens that went through the tokenizer, rows that had before, and processes."""
        return {**self._work, "processes": self.processes}

    def _layout(self, source: SourcePlan, files: tuple[Path, ...] | None) -> tuple[Iterator[Chunk], Layout]:
        """The chunks, and the layout told from the first row that can be read."""
        all_chunks = chunks(source, files)
        seen: list[Chunk] = []
        row: Raw | None = None
        for chunk in all_chunks:
            seen.append(chunk)
            row = next((each for each in chunk.rows() if not each.fault), row)
            if row is not None:
                break
        name = str(source.path) if files is None else ", ".join(map(str, files[:3])) + (", …" if len(files) > 3 else "")
        if row is None:
            faulty = next((each for chunk in seen for each in chunk.rows()), None)
            if faulty is None:
                raise DataError(
                    f"{name}: no rows (source `{source.label}`)", hint="check that the file was written whole"
                )
            raise DataError(f"{faulty.place}: {faulty.fault}: no row of source `{source.label}` can be read")
        layout = sniff(source, row)
        unread = [
            f"`{column}`"
            for column in row.values
            if column not in layout.columns and column != self.group_of(source.label)
        ]
        if unread:
            self.progress.say(f"{source.label}: not read: {', '.join(unread[:8])}{', …' if len(unread) > 8 else ''}")
        return chain(seen, all_chunks), layout

    def _key(self, source: SourcePlan, layout: Layout, rule: LossOn) -> str:
        settings = {name: value for name, value in asdict(source).items() if name not in _OUT_OF_KEY}
        path = None if f"data.{source.label}" in self.job.placement else source.path
        packages = ("transformers", "tokenizers", "trl", "datasets")
        return sha256_json(
            {
                "schema": SCHEMA,
                "settings": settings,
                "path": path,
                "files": self.files.get(f"data.{source.label}", []),
                "layout": asdict(layout),
                "loss_on": rule,
                "tokenizer": folder_hash(self.job.run_dir.tokenizer),
                "vocabulary": self._vocabulary,
                "template_kwargs": self.job.plan.data.template_kwargs,
                "group_by": self.group_of(source.label),
                "ask": self._asked(source),
                "versions": {name: version(name) for name in packages},
            }
        )

    @cached_property
    def _vocabulary(self) -> int | None:
        """Rows of the embedding that tokens must stay within; None where it is resized to the tokenizer."""
        return None if self.job.plan.model.add_tokens else self.job.plan.model.vocabulary

    def _asked(self, source: SourcePlan) -> bool:
        """Whether answers are generated for rows of this source."""
        asked = {each.dataset for each in self.job.plan.evaluation.generate}
        held = [each for each in self.job.plan.data.eval_sources if each.held_out_from in ("all", source.label)]
        return source.label in asked or any(each.label in asked for each in held)

    def _tokenise(
        self,
        source: SourcePlan,
        files: tuple[Path, ...] | None,
        layout: Layout,
        rule: LossOn,
        folder: Path,
        all_chunks: Iterator[Chunk],
    ) -> SourceRows:
        self.progress.say(f"{source.label}: tokenising")
        self._room_seen = False
        stamps = _stamps(files)
        work = Work(
            folder,
            layout,
            Encoder(self.tokenizer, self.template, self._vocabulary),
            rule,
            special=_control_tokens(self.tokenizer),
            group_by=self.group_of(source.label),
            ask=self._asked(source),
        )
        total = sum(stamp[0] for stamp in stamps) or None
        tokeniser = Tokeniser(
            work,
            self.processes,
            self.job.plan.data.on_bad_row == "stop",
            lambda count: self._tell(source, count, total),
        )
        count = tokeniser.run(all_chunks)
        self._work["tokenized_rows"] += count.new_rows + count.new_bad
        self._work["tokenized_tokens"] += count.new_tokens
        self._work["reused_rows"] += count.rows + count.bad - count.new_rows - count.new_bad
        if _stamps(files) != stamps:
            shutil.rmtree(folder, ignore_errors=True)
            raise EnvironmentFault(
                f"a file of source `{source.label}` changed while it was read", hint="run again when it is complete"
            )
        if not tokeniser.ended_early:
            commit(folder, {"format": layout.format})
        rows = SourceRows(source.label, folder)
        ended = "" if rows.whole else f"; reading ended at {MOST_BAD_ROWS:,} bad rows"
        self.progress.say(f"{source.label}: {counted(len(rows), 'row')}, {rows.tokens:,} tokens{ended}")
        return rows

    def _tell(self, source: SourcePlan, count: Count, total_bytes: int | None) -> None:
        share = count.bytes / total_bytes if total_bytes and count.bytes else None
        if share and not self._room_seen and source.max_rows is None:
            self._room_seen = True
            self._require_room(source.label, count.tokens / share, 1 - share)
        self.progress.at(f"{source.label}: tokenising", share, rows=count.rows, tokens=count.tokens)

    def _require_room(self, label: str, tokens: float, left: float) -> None:
        """See a disk that will be full after the first shard, which tells how many tokens a source has.

        Raises:
            EnvironmentFault: what is left to write does not fit.
        """
        needed = {self.cache.root: tokens * left * _SHARD_BYTES, self.job.run_dir.root: tokens * _ROW_BYTES}
        devices = {path: path.stat().st_dev for path in needed}
        for path, device in devices.items():
            wanted = sum(needed[each] for each in needed if devices[each] == device)
            free = shutil.disk_usage(path).free
            if wanted > free:
                raise EnvironmentFault(
                    f"source `{label}` has about {tokens / 1e6:,.0f} M tokens and needs {gib(wanted)} more on the disk of {path}, {gib(free)} are free",
                    hint="read a part of it with `max_rows`, or name a larger disk: `--runs DIR`, and LAUNCHER_CACHE for the cache",
                )


def processes() -> int:
    """Processes that tokenise: LAUNCHER_NUM_PROC (`data.num_proc`), else the cores this process may use."""
    return max(1, int(os.environ.get("LAUNCHER_NUM_PROC") or len(os.sched_getaffinity(0))))


def loss_rule(wanted: str, layout: Layout) -> LossOn:
    """What is trained in rows of one format.

    Raises:
        DataError: the recipe asks for something this format cannot give.
    """
    known = FORMATS[layout.format]
    if wanted == "auto":
        return known.default_loss_on
    if wanted not in known.allowed_loss_on:
        raise DataError(
            f"`data.loss_on: {wanted}` is not possible for rows of format `{known.name}`",
            hint=f"write one of: {', '.join(known.allowed_loss_on)}",
        )
    return wanted  # type: ignore[return-value]


def _stamps(files: tuple[Path, ...] | None) -> list[tuple[int, int]]:
    try:
        return [(file.stat().st_size, file.stat().st_mtime_ns) for file in files or ()]
    except OSError as fault:
        raise EnvironmentFault(f"{fault.filename}: {(fault.strerror or 'cannot be read').lower()}") from None


def _control_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """Matches every special token of the tokenizer; text that holds one would act as a command to the model."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return control_pattern([*tokenizer.all_special_tokens, *added])
