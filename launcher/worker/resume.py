"""How training goes on from a checkpoint: whether it may, and what is said about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import nn

from launcher.errors import RunFailed
from launcher.plan import compatibility
from launcher.plan.model_files import fingerprint
from launcher.runs import changes, events, names, record
from launcher.runs.checkpoints import Checkpoint
from launcher.worker import universal
from launcher.worker.beats import beat
from launcher.worker.job import Job
from launcher.worker.newest_checkpoint import choose
from launcher.worker.trainer import Trainer

_ROWS_FOLLOW = (
    "data",
    "model",
    "training.global_batch_size",
    "training.max_steps",
    "training.num_train_epochs",
    "training.seed",
)
"""What the prepared rows are made from, `data.files` included: where one of these was allowed to change, other rows are no accident."""


def train(job: Job, trainer: Trainer, rank: int) -> None:
    """Train to the last step, from the newest complete checkpoint where there is one.

    Raises:
        RunFailed: the checkpoint belongs to another training than the one that is planned now.
    """
    checkpoint = choose(job.run_dir, rank)
    if checkpoint is None:
        trainer.train()
        return
    check(job, checkpoint)
    if rank == 0:
        announce(job, trainer, checkpoint)
    path = _for_these_ranks(job, trainer, checkpoint, rank)
    if checkpoint.step < trainer.args.max_steps:
        trainer.train(resume_from_checkpoint=str(path))
    else:
        trainer.load_last(str(path))


def _for_these_ranks(job: Job, trainer: Trainer, checkpoint: Checkpoint, rank: int) -> Path:
    """The checkpoint, or a copy that this number of ranks can read."""
    if job.plan.strategy not in ("zero1", "zero2") or checkpoint.manifest["world_size"] == job.plan.batch.world_size:
        return checkpoint.path
    beat("load")
    return universal.convert(trainer, checkpoint.path, trainer.store.staging / "universal", rank)


def check(job: Job, checkpoint: Checkpoint) -> None:
    """Compare what the checkpoint was trained by with what is planned now. What was allowed since it was saved may differ.

    Raises:
        RunFailed: the identity, the base model, the rows or the sharding differ.
    """
    known = record.read(job.run_dir)
    allowed = changes.since(checkpoint.step, known.changes if known else ())
    keys = [key for key, _, _ in allowed]
    _check_identity(job, checkpoint, allowed, known.identity if known else {})
    _check_base_model(job, checkpoint)
    if not _touches(keys, _ROWS_FOLLOW) and checkpoint.manifest["rows"] != job.data_facts()["sets"]["train"]["sha256"]:
        raise RunFailed(
            f"{checkpoint.path.name} was trained on other rows than those prepared now",
            hint=f"bring back the data this run was started with, start a new run, or {_allow(job, changes.DATA_FILES)}",
        )
    _check_sharding(job, checkpoint)


def _check_sharding(job: Job, checkpoint: Checkpoint) -> None:
    then, now = checkpoint.manifest, job.plan
    found = compatibility.refusal(then["strategy"], then["world_size"], now.strategy, now.batch.world_size)
    if found:
        raise RunFailed(f"{checkpoint.path.name} {found[0]}", hint=found[1])


def _check_identity(job: Job, checkpoint: Checkpoint, allowed: list[changes.Change], recorded: dict[str, Any]) -> None:
    then, now = checkpoint.manifest["identity"], job.plan.identity
    before = changes.undone(now, allowed)
    refused = [each for each in changes.difference(then, now) if each[1] != before.get(each[0])]
    if not refused:
        return
    if recorded == now:  # nobody changed the recipe of this run
        hint = f"it was saved by another run: move {checkpoint.path} away"
    else:
        hint = f"set them back, or {_allow(job, *(key for key, _, _ in refused))}"
    raise RunFailed(f"{checkpoint.path.name} was trained by other settings:\n{changes.listed(refused)}", hint=hint)


def _check_base_model(job: Job, checkpoint: Checkpoint) -> None:
    folder = job.placed("model")
    then = checkpoint.manifest["model"]
    now = fingerprint(Path(folder)) if folder and Path(folder).is_dir() else job.data_facts().get("model")
    if then and now and then != now:
        raise RunFailed(
            f"the base model in {folder} is not the one that {checkpoint.path.name} was trained from",
            hint="bring it back, or start a new run",
        )


def _touches(keys: Iterable[str], sections: Iterable[str]) -> bool:
    """Some key is one of these, or lies below one of them."""
    return any(f"{key}.".startswith(f"{section}.") for key in keys for section in sections)


def _allow(job: Job, *keys: str) -> str:
    flags = " ".join(f"--allow-change {key}" for key in keys)
    return f"allow it: `launcher run RECIPE --continue {names.typed(job.run_dir)} {flags}`"


def announce(job: Job, trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Say where training goes on, and what makes the continuation differ from an uninterrupted run."""
    manifest, batch, name = checkpoint.manifest, job.plan.batch, checkpoint.path.name
    versions = changed_versions(manifest["versions"])
    facts = {"step": checkpoint.step, "world_size": batch.world_size, "versions": versions}
    events.append(job.run_dir.events, "resume", checkpoint=name, **facts)
    if versions:
        told = ", ".join(f"{library} {old} → {new or 'not installed'}" for library, (old, new) in versions.items())
        _warn(job, f"libraries changed since {name}: {told}; it may not go on exactly as it would have")
    then = (manifest["world_size"], manifest["per_device"], manifest["accumulation"])
    now = (batch.world_size, batch.per_device, batch.accumulation)
    if then != now and (source := next(_randomness(trainer.model, trainer.args.neftune_noise_alpha), None)):
        _warn(
            job,
            f"the batch of {name} was split {_times(then)} (ranks × rows × accumulation) and is split {_times(now)}: "
            f"`{source}` draws other numbers from here than it would have",
        )


def _times(split: tuple[int, ...]) -> str:
    return " × ".join(map(str, split))


def changed_versions(then: dict[str, str]) -> dict[str, tuple[str, str | None]]:
    """Library → version then and now, of those that differ; None: it is not installed."""
    now = {name: _version(name) for name in then}
    return {name: (old, now[name]) for name, old in then.items() if now[name] != old}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _randomness(model: Any, noise: float | None) -> Iterator[str]:
    """What in a training step draws random numbers: dropout of the model's configuration, of an adapter, noise."""
    yield from _dropouts(model.config.to_dict())
    yield from ("lora_dropout" for each in model.modules() if isinstance(each, nn.Dropout) and each.p > 0)
    if noise:
        yield "neftune_noise_alpha"


def _dropouts(config: dict[str, Any]) -> Iterator[str]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _dropouts(value)
        elif "drop" in str(key) and isinstance(value, float) and value > 0:
            yield key


def _warn(job: Job, message: str) -> None:
    events.append(job.run_dir.events, "warning", message=message)
