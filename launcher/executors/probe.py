"""`launch.probe`: three steps on the longest rows before the training, in a folder of their own, to see whether they fit.

What does not fit is halved and tried again, as `training.on_oom: halve` does it: the same rows per step, the same result.
Nothing else that goes wrong in it stops a run: the training meets it again, where everything is there to answer it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from launcher.errors import LauncherError, LeftAtOnce, RunFailed
from launcher.executors import outcome, resplit
from launcher.executors.host import Here
from launcher.executors.outcome import Ended
from launcher.plan import codec, split
from launcher.plan.types import EvaluationPlan, ExportPlan, Plan
from launcher.runs import checkpoints, events, names
from launcher.runs.files import read_json, write_json, write_text
from launcher.runs.measures import Measures, measures
from launcher.runs.paths import RunDir
from launcher.text import gib

if TYPE_CHECKING:
    from launcher.executors.stages import Stages

STEPS = 3
"""In the first the optimizer makes its state, in the second all of it is there, the third times it."""
_PASSES = 2
"""Passes of a step: with a second one, gradients of the first are there."""


def is_due(stages: Stages) -> bool:
    """The recipe asks for it, and this split of the batch was not tried; a run that goes on has shown that it fits."""
    run_dir, plan = stages.run_dir, stages.plan
    if plan.restart.probe != "first" or checkpoints.newest(run_dir, contents=False).checkpoint:
        return False
    if not isinstance(stages.host, Here):
        stages.view.note("no try before the training (`launch.probe`): the ranks of a job are started by its script")
        return False
    done = [event for event in events.read(run_dir.events) if event.get("event") == "probe"]
    return not any((each.get("per_device"), each.get("fits")) == (plan.batch.per_device, True) for each in done)


def settle(stages: Stages) -> Ended:
    """Halve the rows per device until three steps fit; `stages.plan` is then the plan that does.

    Returns:
        `finished` where the training may start; how it ended where the run is to stop.

    Raises:
        LeftAtOnce: a second Ctrl-C.
    """
    while True:
        plan, rows = stages.plan, split.smaller(stages.plan.batch)
        stages.view.note(f"trying {STEPS} steps of the longest rows, {split.at_a_time(plan.batch)} (`launch.probe`)")
        ended, seen = _try(stages)
        if ended.cause == "stopped":
            return ended
        if ended.cause != "out_of_memory":
            return _through(stages, ended, seen)
        _say(stages, fits=False)
        if rows is None:
            return _too_large(stages, ended)
        stages.plan = resplit.apply(stages.run_dir, plan, rows, "probe")
        write_text(stages.run_dir.attempt_plan(stages.attempt.number), codec.dumps(stages.plan))
        stages.view.note(f"that ran out of memory; from now on {split.at_a_time(stages.plan.batch)}: the same result")


def _try(stages: Stages) -> tuple[Ended, Measures | None]:
    """Train in a folder that looks like the run and is none; nothing of it is left."""
    scratch = _scratch(stages.run_dir, stages.plan)
    try:
        ended = stages.elsewhere(scratch, _Quiet(stages)).run()
        return ended, measures(events.read(scratch.events))
    except LeftAtOnce as error:
        raise LeftAtOnce(error.message, hint=f"`launcher run {names.typed(stages.run_dir)}` starts it again") from None
    except LauncherError as error:
        return outcome.of_error(error), None
    finally:
        shutil.rmtree(scratch.root, ignore_errors=True)


def _scratch(run_dir: RunDir, plan: Plan) -> RunDir:
    scratch = run_dir.probe
    shutil.rmtree(scratch.root, ignore_errors=True)
    scratch.root.mkdir()
    write_text(scratch.plan, codec.dumps(small(plan)))
    write_json(scratch.placement, read_json(run_dir.placement) or {})
    facts = read_json(run_dir.data_facts) or {}
    write_json(scratch.data_facts, {**facts, "max_steps": STEPS, "steps_per_epoch": STEPS})
    for mine, its in (
        (scratch.data, run_dir.data),
        (scratch.tokenizer, run_dir.tokenizer),
        (scratch.base, run_dir.base),
    ):
        if its.exists():
            mine.symlink_to(its.resolve())
    return scratch


def small(plan: Plan) -> Plan:
    """The plan of three steps with two passes at most, which measures, saves and reports nothing."""
    passes = min(plan.batch.accumulation, _PASSES)
    batch = replace(plan.batch, accumulation=passes, global_size=plan.batch.per_device * passes * plan.batch.world_size)
    (train,) = (job for job in plan.jobs if job.stage == "train")
    return replace(
        plan,
        batch=batch,
        data=replace(plan.data, eval_sources=()),
        trainer={**plan.trainer, "gradient_accumulation_steps": passes, "save_strategy": "no", "logging_steps": 1},
        evaluation=EvaluationPlan(None, plan.evaluation.per_device_batch_size, (), None),
        tracking=replace(plan.tracking, report_to=()),
        jobs=(replace(train, depends_on=(), time_limit_s=None),),
        restart=replace(plan.restart, probe="this"),
        export=ExportPlan(),
    )


def _through(stages: Stages, ended: Ended, seen: Measures | None) -> Ended:
    """Three steps were made; or something else went wrong, which is the training's to tell."""
    if ended.cause != "finished":
        first = ended.error.message.splitlines()[0] if ended.error else ended.cause
        stages.view.note(f"the try ended otherwise ({first}); the training starts without it")
        return Ended("finished")
    peak = (seen.most("allocated_bytes") or seen.most("anonymous_bytes")) if seen else None
    predicted = stages.plan.prediction.memory.allocated if stages.plan.prediction else None
    on_gpu = bool(seen and seen.most("allocated_bytes"))
    _say(
        stages,
        fits=True,
        peak_bytes=peak,
        predicted_bytes=predicted,
        factor=round(peak / predicted, 4) if on_gpu and peak and predicted else None,
        step_s=seen.step_s if seen else None,
    )
    stages.view.note(f"it fits{f': {gib(peak)} at the peak' if on_gpu and peak else ''}")
    return ended


def _too_large(stages: Stages, ended: Ended) -> Ended:
    """Not even one row fits: the run stops before it has begun, with what to change."""
    first = ended.error.message.splitlines()[0] if ended.error else "out of memory"
    hint = split.advice(stages.plan, names.typed(stages.run_dir))
    return Ended("out_of_memory", RunFailed(f"the longest rows do not fit (`launch.probe`): {first}", hint=hint))


def _say(stages: Stages, **fields: Any) -> None:
    batch = stages.plan.batch
    events.append(
        stages.run_dir.events,
        "probe",
        attempt=stages.attempt.number,
        per_device=batch.per_device,
        accumulation=batch.accumulation,
        **fields,
    )


class _Quiet:
    """Steps of a try are no steps of the run: only that time passes is shown."""

    def __init__(self, stages: Stages) -> None:
        self._view = stages.view

    def note(self, text: str) -> None:
        """What the launcher does meanwhile."""
        self._view.note(text)

    def event(self, event: Mapping[str, Any]) -> None:
        """Not the run's."""

    def output(self, line: str) -> None:
        """Not the run's."""

    def tick(self) -> None:
        """Some time has passed."""
        self._view.tick()
