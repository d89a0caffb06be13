"""Supervised fine-tuning: the script a person would have written with TRL, with its settings read from the plan."""

from __future__ import annotations

import os
from pathlib import Path

from accelerate.utils import gather_object
from datasets import load_from_disk
from transformers import AutoTokenizer, set_seed
from trl import SFTConfig

from launcher.errors import RunFailed
from launcher.runs import checkpoints, events
from launcher.runs.files import sync
from launcher.worker import adapter, consolidate, evaluate, links, memory, probe, resume, start, tracking, zero
from launcher.worker.beats import beat
from launcher.worker.boundary import Boundary, leave_if_asked
from launcher.worker.callbacks import Events, StepClock
from launcher.worker.faults import RankFailed, Stopped
from launcher.worker.finite import Finite
from launcher.worker.job import Job
from launcher.worker.loss_watch import LossWatch
from launcher.worker.measured import Measured
from launcher.worker.model import load_model
from launcher.worker.reality import CheckReality
from launcher.worker.space import Trouble, trouble
from launcher.worker.stop import StopRequest
from launcher.worker.store import CheckpointStore
from launcher.worker.stragglers import Stragglers
from launcher.worker.trainer import Trainer

_SECONDS_FOR_A_SAVE_UNDER_WAY = 30.0


def run(job: Job, attempt: int, rank: int, stop: StopRequest) -> None:
    """Train from the newest complete checkpoint, or from the start, and leave the result in `RUN/model`.

    Raises:
        Stopped: a stop request was agreed; the state is saved.
        RunFailed: the ranks are not what was planned.
    """
    plan, data, run_dir = job.plan, job.data_facts(), job.run_dir
    zero.check_installed(job)
    args = SFTConfig(
        output_dir=str(run_dir.staged(attempt)),
        **{**plan.trainer, "max_steps": data["max_steps"]},
    )
    check_world(job, args)
    zero.get_ready(job)
    links.check(job, args, rank)
    leave_if_asked(job, args, stop)
    beat("load")
    set_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(run_dir.tokenizer, trust_remote_code=plan.model.trust_remote_code)
    model = load_model(job, tokenizer)
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=probe.rows(job, load_from_disk(run_dir.prepared("train"))),
        processing_class=tokenizer,
        peft_config=adapter.config(job, model, tokenizer),
        store=CheckpointStore(job, attempt, rank, args.world_size),
    )
    adapter.ready(trainer.model)
    start.remember(job, trainer.model, rank)

    boundary, clock = Boundary(job, stop, Finite(job, trainer)), StepClock()
    measured = Measured(job, trainer, attempt, clock)
    callbacks = [
        CheckReality(job, trainer),
        measured,  # before what takes time at the end of a step
        *([Events(job, trainer, attempt, clock, measured.memory), LossWatch(job, trainer)] if rank == 0 else []),
        *evaluate.callbacks(plan, run_dir, trainer, tokenizer, boundary),
        boundary,
        *([Stragglers(job, trainer)] if args.world_size > 1 else []),
        *tracking.callbacks(plan, run_dir),  # behind the others, to see what they log
        clock,  # last: it runs when the others are done
        *([stop.limit] if stop.limit else []),  # so does this one
    ]
    for callback in callbacks:
        trainer.add_callback(callback)

    if rank == 0:
        trainer.store.take_over()
    try:
        with memory.batch_named(job, trainer, rank):
            resume.train(job, trainer, rank)
    except BaseException:
        trainer.store.finish_within(_SECONDS_FOR_A_SAVE_UNDER_WAY)
        raise
    if boundary.stopped:
        end(job, trainer, rank, "stopped")
        raise Stopped
    if not probe.is_one(job):
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


def save_result(job: Job, trainer: Trainer, rank: int) -> None:
    """Write the model (or the adapter) and its tokenizer aside, then put them where the result belongs.

    Raises:
        RankFailed: storage refuses.
    """
    beat("save")
    trainer.store.settle()
    trainer.store.release()
    draft = job.run_dir.model_draft(trainer.store.attempt)
    try:
        _write_result(job, trainer, rank, draft)
    except Exception as error:
        why = trouble(error, job.run_dir.root)
        if why is None:
            raise
        raise RankFailed(why.cause, f"the result could not be written: {why.sentence}", hint=_goes_on(job)) from None


def _write_result(job: Job, trainer: Trainer, rank: int, draft: Path) -> None:
    if consolidate.needed(job.plan):
        consolidate.save(trainer, draft, rank)
    else:
        trainer.save_model(str(draft))
    if rank == 0:
        start.take_out(job, draft)
        (draft / "training_args.bin").unlink(missing_ok=True)  # a pickle; the plan says the same
        for path in filter(Path.is_file, draft.rglob("*")):
            sync(path)
        trainer.store.check_fence()
        for old in (job.run_dir.merged, job.run_dir.model):  # what was merged from an older result goes with it
            checkpoints.discard(job.run_dir, old)
        draft.rename(job.run_dir.model)
        sync(job.run_dir.root)


def end(job: Job, trainer: Trainer, rank: int, state: str) -> None:
    """Say how it ended, and leave only when all ranks have come this far: torchrun ends the others with the first.

    Raises:
        RankFailed: the run was to stop, and its last step could not be saved.
    """
    beat("leave")
    unsaved = [each for each in gather_object([trainer.store.settle()]) if each is not None]
    if state == "stopped" and unsaved:
        raise _unsaved(job, trainer, unsaved[0])
    if rank == 0:
        events.append(job.run_dir.events, "end", step=trainer.state.global_step, state=state, error=None)
        trainer.store.sweep()
    trainer.accelerator.wait_for_everyone()
    trainer.end()


def _unsaved(job: Job, trainer: Trainer, why: Trouble) -> RankFailed:
    """The error of a stop whose save failed: the same on all ranks."""
    return RankFailed(
        why.cause,
        f"stopped at step {trainer.state.global_step}, which could not be saved: {why.sentence}",
        hint=_goes_on(job),
    )


def _goes_on(job: Job) -> str:
    newest = checkpoints.newest(job.run_dir, contents=False).checkpoint
    return f"put that right; the same command goes on from {newest.path.name if newest else 'step 0'}"
