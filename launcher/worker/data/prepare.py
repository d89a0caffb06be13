"""The stage `prepare`: from data files to the rows a trainer maps, once for their contents, before any accelerator is held."""

from __future__ import annotations

import math
import os
import shutil
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from launcher.errors import EnvironmentFault
from launcher.plan.model_files import fingerprint as fingerprint_of_model
from launcher.runs import cache as caches
from launcher.runs.cache import Cache
from launcher.runs.files import read_json, write_json
from launcher.text import counted
from launcher.worker.data.progress import Progress
from launcher.worker.data.sources import fingerprint, local_files
from launcher.worker.job import Job, sha256_json

SCHEMA = 2
_TRAVELS = ("data", "tokenizer", "base", "bad_rows.jsonl", "removed_rows.jsonl")
"""What `prepare` makes in a run directory, `data.json` apart, and what a finished preparation in the cache holds."""


def prepare(job: Job, progress: Progress) -> bool:
    """Make `data/`, `tokenizer/` and `data.json`, unless they are there and still fit the plan and the files.

    What another run has prepared from the same contents with the same settings is linked, not made again.

    Returns:
        Whether anything had to be made or linked.

    Raises:
        DataError: a row, a file or a combination of settings cannot be used.
        EnvironmentFault: a file, tokenizer or dataset is not here.
    """
    started = time.monotonic()
    before = read_json(job.run_dir.data_facts) or {}
    cache = caches.of_run(job.run_dir)
    files = file_facts(job, cache, before.get("files", {}))
    key = sha256_json([_settings(job), files])
    if before.get("key") == key:
        _commit(job, before, before.get("work", {}))
        return False
    _clear(job)
    with cache.lock(key, lambda: progress.say("another run prepares the same data; waiting for it")):
        facts = _cached(job, cache.prepared(key))
        made = {} if facts else _made(job, cache, files, key, progress)
        facts = facts or made["facts"]
    work = made.get("work", {"tokenized_rows": 0, "tokenized_tokens": 0, "reused_rows": _rows_read(facts)})
    seconds = round(time.monotonic() - started, 3)
    _commit(job, facts, {**work, "from_cache": not made, "seconds": seconds})
    return True


def _made(job: Job, cache: Cache, files: dict[str, Any], key: str, progress: Progress) -> dict[str, Any]:
    from launcher.worker.data.build import Builder
    from launcher.worker.data.tokenizer import folder_hash

    builder = Builder(job, cache, files, progress)
    facts = builder.build()
    facts = {"schema": SCHEMA, "key": key, "files": files, **facts, "tokenizer": folder_hash(job.run_dir.tokenizer)}
    _publish(job, cache.prepared(key), facts)
    return {"facts": facts, "work": builder.work()}


def _rows_read(facts: dict[str, Any]) -> int:
    return sum(int(each["read"]) for each in facts["sources"].values())


def _settings(job: Job) -> dict[str, Any]:
    """Everything but file contents that the prepared rows depend on."""
    plan = job.plan
    packages = ("transformers", "tokenizers", "trl", "datasets", "numpy", "pyarrow")
    model = {
        name: asdict(plan.model)[name]
        for name in ("name", "tokenizer", "revision", "tokenizer_revision", "chat_template", "add_tokens")
    }
    for local in ("model", "tokenizer"):
        if job.placed(local):  # known by its contents
            model["name" if local == "model" else local] = None
    data = asdict(plan.data)
    for source in (*data["sources"], *data["eval_sources"]):
        if f"data.{source['label']}" in job.placement:
            source["path"] = None
    return {
        "schema": SCHEMA,
        "data": data,
        "model": model,
        "from_config": plan.model.from_config and [plan.model.from_config, plan.trainer["seed"]],
        "global_batch_size": plan.batch.global_size,
        "generate": [asdict(each) for each in plan.evaluation.generate],
        "versions": {name: version(name) for name in packages},
    }


def file_facts(job: Job, cache: Cache, before: dict[str, Any]) -> dict[str, list[list[Any]]]:
    """Name, size and sha256 of each local file; of files that are not on this machine (any more), what was noted before.

    Raises:
        EnvironmentFault: a data file is missing and nothing is known of it.
    """
    facts: dict[str, list[list[Any]]] = {}
    for key, placed in sorted(job.placement.items()):
        if key.startswith("data."):
            files = local_files(placed)
        elif key == "tokenizer" or (key == "model" and "tokenizer" not in job.placement):
            files = tuple(sorted(Path(str(placed)).glob("*token*")))
        else:
            continue
        there = all(file.is_file() for file in files) and bool(files)
        facts[key] = _contents(files, cache) if there else before.get(key, [])
    for source in (*job.plan.data.sources, *job.plan.data.eval_sources):
        if source.path is not None and f"data.{source.label}" not in job.placement:
            facts[f"data.{source.label}"] = fingerprint(source, None)
    return facts


def _contents(files: tuple[Path, ...], cache: Cache) -> list[list[Any]]:
    try:
        return [[file.name, file.stat().st_size, cache.sha256(file)] for file in files]
    except OSError as fault:
        raise EnvironmentFault(f"{fault.filename}: cannot be read: {fault.strerror}") from None


def _clear(job: Job) -> None:
    """Take away what an earlier `prepare` made; `data.json` first, so that a kill leaves nothing that looks whole."""
    job.run_dir.data_facts.unlink(missing_ok=True)
    for name in _TRAVELS:
        path = job.run_dir.root / name
        path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)
    job.run_dir.data.mkdir(parents=True)


def _publish(job: Job, entry: Path, facts: dict[str, Any]) -> None:
    """Give the cache what was made. A cache that cannot be written (a full or foreign disk) costs only the next run time."""
    draft = entry.with_name(f".{entry.name}.{os.getpid()}")
    try:
        draft.mkdir(parents=True, exist_ok=True)
        for name in _TRAVELS:
            path = job.run_dir.root / name
            if path.is_dir():
                caches.link_tree(path, draft / name)
            elif path.exists():
                shutil.copy2(path, draft / name)
        sizes = {str(path.relative_to(draft)): path.stat().st_size for path in draft.rglob("*") if path.is_file()}
        write_json(draft / "facts.json", {"facts": facts, "sizes": sizes})
        shutil.rmtree(entry, ignore_errors=True)
        draft.rename(entry)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)


def _cached(job: Job, entry: Path) -> dict[str, Any] | None:
    """Link a finished preparation into the run; None where there is none, or one that is not whole."""
    known = read_json(entry / "facts.json") or {}
    sizes: dict[str, int] = known.get("sizes", {})
    if not sizes or any(_size(entry / name) != size for name, size in sizes.items()):
        return None
    for name in _TRAVELS:
        path = entry / name
        if path.is_dir():
            caches.link_tree(path, job.run_dir.root / name)
        elif path.exists():
            shutil.copy2(path, job.run_dir.root / name)
    return dict(known["facts"])


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _commit(job: Job, facts: dict[str, Any], work: dict[str, Any]) -> None:
    """Write `data.json`, last of all: the facts, the steps that follow from them, and what was done for it."""
    train = facts["sets"]["train"]
    steps_per_epoch = (train["rows"] + train["fillers"]) // job.plan.batch.global_size
    asked = int(job.plan.trainer.get("max_steps", -1))
    epochs = float(job.plan.trainer.get("num_train_epochs", 3.0))
    schedule = {
        "steps_per_epoch": steps_per_epoch,
        "max_steps": asked if asked > 0 else math.ceil(epochs * steps_per_epoch),
        "tokens_per_step": round(train["tokens"] / max(1, steps_per_epoch)),
    }
    model = job.placed("model")
    if model and "model" not in facts:  # what the data was made beside; a checkpoint continues from no other
        facts = {**facts, "model": fingerprint_of_model(Path(model))}
    whole = {**facts, **schedule, "warnings": _warnings(job, facts, schedule), "work": work}
    if whole != read_json(job.run_dir.data_facts):
        write_json(job.run_dir.data_facts, whole)


def _warnings(job: Job, facts: dict[str, Any], schedule: dict[str, int]) -> list[str]:
    """What follows from the number of steps and epochs, beside what the data itself gave reason to."""
    found = list(facts["notes"])
    steps, train = schedule["max_steps"], facts["sets"]["train"]
    if steps < _FEW_STEPS:
        found.append(
            f"{counted(steps, 'optimizer step')} in all: below {_FEW_STEPS} a model hardly learns; {_MORE_STEPS}"
        )
    if train["rows"] < job.plan.batch.global_size:
        found.append(
            f"{counted(train['rows'], 'row')} for a global batch of {job.plan.batch.global_size}: the rest of each batch is empty"
        )
    passes = steps / max(1, schedule["steps_per_epoch"])
    for label, part in facts["mixture"]["sources"].items():
        most, seen = part["max_epochs"], part["epochs"] * passes
        if part["asked"] is not None and seen > most + 0.005:
            found.append(
                f"each row of `{label}` is seen {seen:.3g} times ({part['epochs']:.3g} per pass × {passes:.3g} passes), max_epochs is {most:g}"
            )
    return found


_FEW_STEPS = 100
_MORE_STEPS = "lower `training.global_batch_size`, train more epochs, or add rows"
