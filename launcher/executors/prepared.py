"""What a run needs from this machine before a stage starts: its files in place, its data as it was prepared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from launcher.cluster.schema import Site
from launcher.errors import DataError, EnvironmentFault, LauncherError
from launcher.plan.model_files import fingerprint
from launcher.plan.types import Plan
from launcher.render.container import Enclosure, enclosure
from launcher.runs import cache, drift, names, record
from launcher.runs.files import read_json
from launcher.runs.paths import RunDir
from launcher.runs.record import Record


def settings_key(plan: Plan) -> str:
    """Hash of all in a plan that the prepared data depends on, file contents apart."""
    trainer = {name: plan.trainer.get(name) for name in ("seed", "max_steps", "num_train_epochs")}
    parts = [asdict(plan.data), asdict(plan.model), plan.batch.global_size, trainer]
    parts.append([asdict(each) for each in plan.evaluation.generate])
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def is_current(run_dir: RunDir, plan: Plan) -> bool:
    """The prepared data is there and made by these settings; `refuse_drift` looks after the files."""
    known = record.read(run_dir)
    return run_dir.data_facts.exists() and known is not None and known.prepared == settings_key(plan)


def found(runs: Path, plan: Plan) -> Path | None:
    """`data.json` of the run that this plan would continue, where its data is prepared by these settings; None otherwise."""
    for run_dir in names.series(runs, plan.name):
        known = record.read(run_dir)
        if known is None:
            return None
        if known.identity == record.plain(plan.identity):
            return run_dir.data_facts if is_current(run_dir, plan) else None
    return None


def remember(run_dir: RunDir, plan: Plan, known: Record) -> Record:
    """Note by which settings the data was prepared."""
    noted = replace(known, prepared=settings_key(plan))
    record.write(run_dir, noted)
    return noted


def refuse_drift(run_dir: RunDir, placed: drift.Placement) -> None:
    """Compare the data files and the model's folder at their places with what `prepare` found there.

    Raises:
        DataError: a file differs.
    """
    facts = read_json(run_dir.data_facts)
    if facts is None:
        return
    refuse_other_model(run_dir, placed)
    found = drift.changes(facts.get("files") or {}, placed, cache.of_run(run_dir).sha256)
    if found:
        raise DataError(
            f"the data has changed since {run_dir.name} was prepared:\n"
            + "\n".join(f"       {each}" for each in found),
            hint=f"put the old data back, or train on the new data in a run of its own: `--set name={run_dir.name}-new-data`",
        )


def refuse_other_model(run_dir: RunDir, placed: drift.Placement) -> None:
    """Compare the model's folder with what `prepare` found there.

    Raises:
        DataError: it differs.
    """
    known, model = (read_json(run_dir.data_facts) or {}).get("model"), placed.get("model")
    if isinstance(model, str) and Path(model).is_dir() and known not in (None, fingerprint(Path(model))):
        raise DataError(
            f"the model in {model} has changed since {run_dir.name} was trained on it",
            hint=f"put the old one back, or train on the new one in a run of its own: `--set name={run_dir.name}-new-model`",
        )


def placement(run_dir: RunDir) -> dict[str, Any]:
    """Absolute paths of this run on this machine."""
    return read_json(run_dir.placement) or {}


def enclosed(run_dir: RunDir, plan: Plan, site: Site) -> Enclosure | None:
    """The container of the site's profile with what this run needs in it; None where it names none.

    Raises:
        EnvironmentFault: a path cannot be bound.
    """
    return enclosure(site, placement(run_dir), run_dir.root, cache.of_run(run_dir).root, cuda=plan.device == "cuda")


def check_placement(run_dir: RunDir, *, data: bool, verb: str = "run") -> None:
    """Look whether the run's model (and, with `data`, its sources) are on this machine.

    Raises:
        EnvironmentFault: a model, tokenizer or adapter is missing.
        DataError: a data file is missing.
    """
    placed = placement(run_dir)
    wanted = ("model", "adapter", *(["tokenizer"] if data else []))
    for key in wanted:
        if key in placed and not Path(placed[key]).exists():
            raise _absent(EnvironmentFault, run_dir, key, placed[key], verb)
    for key, path in drift.missing(placed) if data else ():
        raise _absent(DataError, run_dir, key, str(path), verb)


def recipe_keys(plan: Plan) -> Mapping[str, str]:
    """Placement key → the recipe key that a person sets."""
    sources = {f"data.{source.label}": f"data.datasets.{source.label}.path" for source in plan.data.sources}
    evals = {f"data.{source.label}": f"data.eval_datasets.{source.label}.path" for source in plan.data.eval_sources}
    model = {name: f"model.{name}_name_or_path" for name in ("model", "tokenizer", "adapter")}
    return {**evals, **sources, **model}


def _absent(kind: type[LauncherError], run_dir: RunDir, key: str, path: str, verb: str) -> LauncherError:
    from launcher.plan import codec

    recipe_key = recipe_keys(codec.loads(run_dir.plan.read_text(encoding="utf-8")))[key]
    return kind(
        f"{path} is not on this machine (`{recipe_key}`)",
        hint=f"say where it is: `launcher {verb} {names.typed(run_dir)} --set {recipe_key}=PATH`",
    )
