"""How one optimizer step is split into forward passes: what to change when memory does not suffice, at an equal result."""

from __future__ import annotations

from dataclasses import replace

from launcher.errors import UsageError
from launcher.plan.types import Batch, Decision, Plan
from launcher.text import counted

ROWS = "training.per_device_train_batch_size"
_PASSES = "training.gradient_accumulation_steps"


def smaller(batch: Batch) -> int | None:
    """Rows per device of the next smaller split: half, or the largest number below that which divides; None after 1."""
    rows = batch.per_device * batch.accumulation
    return next((each for each in range(batch.per_device // 2, 0, -1) if rows % each == 0), None)


def with_rows(plan: Plan, rows: int, reason: str) -> Plan:
    """The plan with so many rows per device and as much more accumulation: the same rows per optimizer step.

    Raises:
        UsageError: the rows of one device do not divide by that.
    """
    batch = plan.batch
    share = batch.per_device * batch.accumulation
    if rows < 1 or share % rows:
        fitting = ", ".join(str(each) for each in range(1, share + 1) if share % each == 0)
        raise UsageError(
            f"`{ROWS}={rows}`: a device takes {share} rows per optimizer step, which do not divide by {rows}",
            hint=f"rows that do: {fitting}",
        )
    passes = share // rows
    names = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": passes}
    others = tuple(each for each in plan.decisions if each.key not in (ROWS, _PASSES))
    ranks = counted(batch.world_size, "rank")
    follows = Decision(_PASSES, passes, f"global batch {batch.global_size} / ({rows} per device × {ranks})")
    return replace(
        plan,
        batch=replace(batch, per_device=rows, accumulation=passes),
        trainer=plan.trainer | names,
        recipe=plan.recipe | {"training": plan.recipe.get("training", {}) | names},
        decisions=(*others, Decision(ROWS, rows, reason), follows),
        prediction=None,
        unpredicted="it was predicted for another split of the batch",
    )


def at_a_time(batch: Batch) -> str:
    """The split in words."""
    passes = "pass" if batch.accumulation == 1 else "passes"
    return f"{counted(batch.per_device, 'row')} at a time, {batch.accumulation} {passes} per step"


def advice(plan: Plan, run: str) -> str:
    """What to type when training has run out of memory: the cheapest change that needs less of it.

    Args:
        plan: the plan that was too large.
        run: the run as it is named on the command line.
    """
    batch, rows = plan.batch, smaller(plan.batch)
    if rows is not None:
        changed = replace(batch, per_device=rows, accumulation=batch.per_device * batch.accumulation // rows)
        return (
            f"`launcher run {run} --set {ROWS}={rows}` goes on with {at_a_time(changed)}:"
            f" the same {batch.global_size} rows per step, the same result"
        )
    if not plan.trainer.get("activation_checkpointing"):
        return (
            "it is one row at a time already; `launcher run RECIPE --set training.activation_checkpointing=true` goes"
            " on and recomputes activations: much less memory, about a third more compute"
        )
    return _another_run(plan)


def _another_run(plan: Plan) -> str:
    """Nothing that keeps the result is left."""
    length = max(1, plan.data.max_length // 2)
    quantized = (
        "" if plan.method in ("qlora", "int8") else "; or QLoRA (`quantization: {load_in_4bit: true}`, `peft: {r: 16}`)"
    )
    return (
        "it is one row at a time already, with activations recomputed, so the training itself must change, in a run of"
        f" its own: shorter rows, `launcher run RECIPE --set name={plan.name}-short --set data.max_length={length}`"
        + quantized
    )
