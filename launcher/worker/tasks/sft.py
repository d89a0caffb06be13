"""Supervised fine-tuning: the script a person would have written with TRL, with its settings read from the plan."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from datasets import load_from_disk
from transformers import AutoTokenizer, set_seed
from trl import SFTConfig

from launcher.errors import RunFailed
from launcher.plan.model_files import fingerprint
from launcher.runs import checkpoints, events
from launcher.worker import evaluate, tracking
from launcher.worker.boundary import Boundary
from launcher.worker.callbacks import CheckWrapper, Events
from launcher.worker.faults import Stopped
from launcher.worker.job import Job
from launcher.worker.model import load_model, peft_config
from launcher.worker.stop import StopRequest
from launcher.worker.store import CheckpointStore
from launcher.worker.trainer import Trainer


def run(job: Job, attempt: int, rank: int, stop: StopRequest) -> None:
    """Train from the newest complete checkpoint, or from the start, and leave the result in `RUN/model`.

    Raises:
        Stopped: a stop request was agreed; the state is saved.
        RunFailed: the ranks are not what was planned.
    """
    plan, data, run_dir = job.plan, job.data_facts(), job.run_dir
    args = SFTConfig(
        output_dir=str(run_dir.staging),
        **{**plan.trainer, "max_steps": data["max_steps"]},
    )
    check_world(job, args)
    if rank == 0:
        checkpoints.sweep(run_dir)

    set_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(run_dir.tokenizer, trust_remote_code=plan.model.trust_remote_code)
    model = load_model(job, tokenizer)
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=load_from_disk(run_dir.prepared("train")),
        processing_class=tokenizer,
        peft_config=peft_config(job),
        store=CheckpointStore(job, attempt, args.world_size),
    )

    boundary = Boundary(job, stop)
    callbacks = [
        CheckWrapper(job, trainer),
        *([Events(job, trainer, attempt)] if rank == 0 else []),
        *evaluate.callbacks(plan, run_dir, trainer, tokenizer),
        boundary,
        *tracking.callbacks(plan, run_dir),  # last, to see what the others log
    ]
    for callback in callbacks:
        trainer.add_callback(callback)

    train(job, trainer, rank)
    if boundary.stopped:
        end(job, trainer, rank, "stopped")
        raise Stopped
    save_result(job, trainer, rank)
    end(job, trainer, rank, "finished")


def check_world(job: Job, args: SFTConfig) -> None:
    """The trainer sees as many ranks as were started and planned.

    Raises:
        RunFailed: it does not; on a machine without GPUs, ranks may silently train alone.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if not args.world_size == started == job.plan.batch.world_size:
        raise RunFailed(
            f"planned {job.plan.batch.world_size} ranks, torchrun started {started}, the trainer sees {args.world_size}"
        )


def train(job: Job, trainer: Trainer, rank: int) -> None:
    """Train to the last step, from the newest complete checkpoint where there is one.

    Raises:
        RunFailed: the checkpoint was trained on other rows than those prepared now, or from another base model.
    """
    newest = checkpoints.newest(job.run_dir).checkpoint
    if newest is None:
        trainer.train()
        return
    known, model = job.data_facts().get("model"), job.placed("model")
    if known and model and Path(model).is_dir() and fingerprint(Path(model)) != known:
        raise RunFailed(
            f"the base model in {model} is not the one that {newest.path.name} was trained from",
            hint="bring it back, or start a new run",
        )
    if newest.manifest.get("rows") != job.data_facts()["sets"]["train"]["sha256"]:
        raise RunFailed(
            f"{newest.path.name} was trained on other rows than those prepared now",
            hint="start a new run, or bring back the data this run was started with",
        )
    if rank == 0:
        events.append(job.run_dir.events, "resume", checkpoint=newest.path.name, step=newest.step)
    if newest.step < trainer.args.max_steps:
        trainer.train(resume_from_checkpoint=str(newest.path))
    else:
        trainer.load_last(str(newest.path))


def save_result(job: Job, trainer: Trainer, rank: int) -> None:
    """Write the model (or the adapter) and its tokenizer aside, then put them where the result belongs."""
    result = job.run_dir.model
    draft = job.run_dir.staging / "model"
    trainer.save_model(str(draft))
    if rank == 0:
        (draft / "training_args.bin").unlink(missing_ok=True)  # a pickle; the plan says the same
        shutil.rmtree(result, ignore_errors=True)
        draft.rename(result)


def end(job: Job, trainer: Trainer, rank: int, state: str) -> None:
    """Say how it ended, and leave only when all ranks have come this far: torchrun ends the others with the first."""
    if rank == 0:
        events.append(job.run_dir.events, "end", step=trainer.state.global_step, state=state, error=None)
        checkpoints.sweep(job.run_dir)
    trainer.accelerator.wait_for_everyone()
    trainer.end()
