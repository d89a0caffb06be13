"""The last evaluation as a job of its own: the result of a finished training, measured by one process on one device.

It builds the trainer that trained, with what lies in RUN/model in it, and measures with the same code: where the weights
are loaded as they were, the numbers are those that one rank would have found at the end of the training.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import load_from_disk
from transformers import AutoTokenizer, TrainerState, set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import align_special_tokens
from trl import SFTConfig, SFTTrainer

from launcher.errors import RunFailed
from launcher.runs import checkpoints, state
from launcher.worker import adapter, metrics, tracking
from launcher.worker.boundary import Boundary, leave_if_asked
from launcher.worker.data.progress import Progress
from launcher.worker.evaluate import Measurement
from launcher.worker.faults import Stopped
from launcher.worker.finite import Finite
from launcher.worker.job import Job
from launcher.worker.model import load_model
from launcher.worker.stop import StopRequest

_OF_MANY_RANKS = ("fsdp", "fsdp_config", "deepspeed")


def evaluate_result(job: Job) -> None:
    """Measure the result on all eval sets: losses and answers, in `eval/final.json`, events and trackers.

    Raises:
        Stopped: somebody asked for it, between two batches or two tokens; nothing of what was measured is kept.
        RunFailed: the training is not over.
        EnvironmentFault: the base, the result or the package of a metric is missing.
    """
    plan, run_dir = job.plan, job.run_dir
    metrics.require(name for spec in plan.evaluation.generate for name in spec.metrics)
    if not state.complete(run_dir):
        raise RunFailed("there is no result to measure: the training is not over", hint="run the stage `train`")
    stop, at = StopRequest(run_dir.stop_request), Progress(print, run_dir, "evaluate").at
    args = SFTConfig(output_dir=str(run_dir.evals), **_trainer_args(job))
    leave_if_asked(job, args, stop, step=args.max_steps)

    at("loading the model", None)
    set_seed(args.seed)  # rows of new tokens that were not trained start as they did
    tokenizer = AutoTokenizer.from_pretrained(run_dir.tokenizer, trust_remote_code=plan.model.trust_remote_code)
    trainer = SFTTrainer(
        model=load_model(_of_result(job), tokenizer),
        args=args,
        train_dataset=load_from_disk(run_dir.prepared("train")),
        processing_class=tokenizer,
    )
    adapter.ready(trainer.model)
    align_special_tokens(trainer.model, tokenizer)  # as the trainer did before the first step
    trainer.state = _at_the_end(job, args.max_steps)
    for callback in tracking.callbacks(plan, run_dir):
        trainer.add_callback(callback)

    at("measuring the result", None)
    boundary = Boundary(job, stop, Finite(job, trainer))
    if not Measurement(plan, run_dir, trainer, tokenizer, boundary).make("final", generate=True):
        boundary.leave(args, trainer.state)
        raise Stopped
    trainer.callback_handler.on_train_end(args, trainer.state, trainer.control)


def _trainer_args(job: Job) -> dict[str, Any]:
    """Those of the training, without what spreads a model over ranks."""
    chosen = {name: value for name, value in job.plan.trainer.items() if name not in _OF_MANY_RANKS}
    return {**chosen, "max_steps": job.data_facts()["max_steps"]}


def _of_result(job: Job) -> Job:
    """The same run as if it began with its result: with RUN/model as its base, or as the adapter on its base."""
    where = str(job.run_dir.model)
    part = "adapter" if job.plan.peft else "model"
    changes: dict[str, Any] = {"adapter": where} if job.plan.peft else {"from_config": None}
    model = replace(job.plan.model, **changes)
    return replace(
        job,
        plan=replace(job.plan, model=model, strategy="ddp"),
        placement={**job.placement, part: where},
    )


def _at_the_end(job: Job, step: int) -> TrainerState:
    """The trainer's state after the last step, with the logs that trackers may have missed where a checkpoint kept them."""
    newest = checkpoints.newest(job.run_dir, contents=False).checkpoint
    if newest is not None and newest.step == step:
        return TrainerState.load_from_json(str(Path(newest.path) / TRAINER_STATE_NAME))
    return TrainerState(global_step=step, max_steps=step, epoch=step / job.data_facts()["steps_per_epoch"])
