"""The stage `prepare`: from data files to the rows a trainer maps, once per run, before any accelerator is held."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from launcher.plan.types import SourcePlan
from launcher.runs.files import read_json, write_json
from launcher.worker.data.chat import ChatTemplate
from launcher.worker.data.collect import Collected, Progress, check, collect
from launcher.worker.data.encode import Encoder
from launcher.worker.data.rows import packed, with_fillers
from launcher.worker.data.sources import local_files
from launcher.worker.data.split import hold_out, joined
from launcher.worker.data.tokenizer import folder_hash, write_base, write_tokenizer
from launcher.worker.job import Job, sha256_file, sha256_json

SCHEMA = 1


def prepare(job: Job, progress: Progress) -> bool:
    """Make `data/`, `tokenizer/` and `data.json`, unless they are there and still fit the plan and the files.

    Returns:
        Whether anything had to be made.

    Raises:
        DataError: a row, a file or a combination of settings cannot be used.
        EnvironmentFault: a file, tokenizer or dataset is not here.
    """
    before = read_json(job.run_dir.data_facts) or {}
    files = _file_facts(job, before.get("files", {}))
    key = sha256_json([_settings(job), files])
    if before.get("key") == key:
        _reschedule(job, before)
        return False
    _clear(job)
    tokenizer = write_tokenizer(job)
    if job.plan.model.from_config is not None:
        write_base(job, tokenizer)
    sets = _Builder(job, tokenizer, progress).build()
    train = sets["train"]
    facts = {"schema": SCHEMA, "key": key, "files": files, "sets": sets}
    facts |= _schedule(job, train["rows"] + train["fillers"])
    write_json(job.run_dir.data_facts, facts | {"tokenizer": folder_hash(job.run_dir.tokenizer)})
    return True


def _settings(job: Job) -> dict[str, Any]:
    """Everything but file contents that the prepared rows depend on."""
    plan = job.plan
    packages = ("transformers", "tokenizers", "trl", "datasets")
    model = {
        name: asdict(plan.model)[name] for name in ("name", "tokenizer", "revision", "chat_template", "add_tokens")
    }
    return {
        "schema": SCHEMA,
        "data": asdict(plan.data),
        "model": model,
        "from_config": plan.model.from_config and [plan.model.from_config, plan.trainer["seed"]],
        "global_batch_size": plan.batch.global_size,
        "generate": [asdict(each) for each in plan.evaluation.generate],
        "versions": {name: version(name) for name in packages},
    }


def _file_facts(job: Job, before: dict[str, Any]) -> dict[str, list[list[Any]]]:
    """Name, size and sha256 of each local file; of files that are not on this machine (any more), what was noted before."""
    facts = {}
    for key, placed in sorted(job.placement.items()):
        if key.startswith("data."):
            files = local_files(placed)
        elif key == "tokenizer" or (key == "model" and "tokenizer" not in job.placement):
            files = tuple(sorted(Path(str(placed)).glob("*token*")))
        else:
            continue
        there = all(file.is_file() for file in files) and bool(files)
        facts[key] = [[f.name, f.stat().st_size, sha256_file(f)] for f in files] if there else before.get(key, [])
    return facts


def _clear(job: Job) -> None:
    """Take away what an earlier `prepare` made; `data.json` first, so that a kill leaves nothing that looks whole."""
    job.run_dir.data_facts.unlink(missing_ok=True)
    job.run_dir.bad_rows.unlink(missing_ok=True)
    for folder in (job.run_dir.data, job.run_dir.tokenizer, job.run_dir.base):
        shutil.rmtree(folder, ignore_errors=True)
    job.run_dir.data.mkdir(parents=True)


def _schedule(job: Job, rows: int) -> dict[str, int]:
    """Optimizer steps of one pass and of the whole training."""
    steps_per_epoch = rows // job.plan.batch.global_size
    asked = int(job.plan.trainer.get("max_steps", -1))
    epochs = float(job.plan.trainer.get("num_train_epochs", 3.0))
    return {
        "steps_per_epoch": steps_per_epoch,
        "max_steps": asked if asked > 0 else math.ceil(epochs * steps_per_epoch),
    }


def _reschedule(job: Job, facts: dict[str, Any]) -> None:
    train = facts["sets"]["train"]
    schedule = _schedule(job, train["rows"] + train["fillers"])
    if any(facts.get(name) != value for name, value in schedule.items()):
        write_json(job.run_dir.data_facts, facts | schedule)


class _Builder:
    """Makes the sets of one run."""

    def __init__(self, job: Job, tokenizer: Any, progress: Progress) -> None:
        self.job = job
        self.data = job.plan.data
        self.tokenizer = tokenizer
        self.progress = progress
        self.asked = {each.dataset for each in job.plan.evaluation.generate}
        # Packing with `bfd_split` and `wrapped` cuts rows itself, and keeps what it cuts off.
        keeps_all = self.data.packing and self.data.packing_strategy != "bfd"
        template = ChatTemplate(tokenizer, dict(self.data.template_kwargs))
        self.encoder = Encoder(tokenizer, template, self.data.max_length)
        self.train_encoder = Encoder(tokenizer, template, None) if keeps_all else self.encoder

    def build(self) -> dict[str, Any]:
        """Write all sets; facts of each by its folder's name."""
        held_out = [each for each in self.data.eval_sources if each.held_out_from]
        asked = any(each.label in self.asked for each in held_out)
        sources = [self._read(each, self.train_encoder, ask=asked) for each in self.data.sources]
        kept, parts = hold_out(sources, held_out, self.data.seed)
        facts = {"train": self._write_train(kept)}
        for each in self.data.eval_sources:
            own = parts.get(each.label) or [self._read(each, self.encoder, ask=each.label in self.asked)]
            facts[f"eval-{each.label}"] = self._write_eval(each.label, own)
        return facts

    def _read(self, source: SourcePlan, encoder: Encoder, *, ask: bool) -> Collected:
        placed = self.job.placement.get(f"data.{source.label}")
        self.progress(f"reading {source.label}")
        files = None if placed is None else local_files(placed)
        found = collect(source, files, encoder, self.data, self.progress, ask=ask)
        check(found, self.data, self.job.run_dir.bad_rows)
        self.progress(f"{source.label}: {len(found.rows)} rows, {len(found.rows.ids)} tokens")
        return found

    def _write_train(self, sources: Sequence[Collected]) -> dict[str, Any]:
        rows = joined(sources)
        dataset = rows.dataset()
        if self.data.packing:
            self.progress(f"packing {len(rows)} rows")
            dataset = packed(rows, self.data.max_length, self.data.packing_strategy)
        real = len(dataset)
        dataset, fillers = with_fillers(dataset, self.job.plan.batch.global_size, self.tokenizer.pad_token_id)
        dataset.save_to_disk(self.job.run_dir.prepared("train"))
        return {
            "rows": real,
            "fillers": fillers,
            "tokens": len(rows.ids),
            "trained_tokens": rows.trained,
            "sources": {source.label: source.facts() for source in sources},
            "sha256": rows.fingerprint(),
        }

    def _write_eval(self, label: str, parts: Sequence[Collected]) -> dict[str, Any]:
        rows = joined(parts)
        rows.dataset().save_to_disk(self.job.run_dir.prepared(f"eval-{label}"))
        if label in self.asked:
            questions = [asdict(each) for part in parts for each in part.questions if each]
            lines = (json.dumps(question, ensure_ascii=False) + "\n" for question in questions)
            self.job.run_dir.prepared(f"generate-{label}.jsonl").write_text("".join(lines), encoding="utf-8")
        return {
            "rows": len(rows),
            "fillers": 0,
            "tokens": len(rows.ids),
            "trained_tokens": rows.trained,
            "sources": {part.label: part.facts() for part in parts},
            "sha256": rows.fingerprint(),
        }
