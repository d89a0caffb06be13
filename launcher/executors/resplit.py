"""Another split of the batch for a run that ran out of memory: written into its plan, and kept for later starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from launcher.errors import EnvironmentFault, UsageError
from launcher.executors import folder, prepared
from launcher.plan import codec, split
from launcher.plan.make import Planned
from launcher.plan.types import Plan
from launcher.runs import checkpoints, events, record
from launcher.runs.paths import RunDir
from launcher.runs.record import Record, Split, SplitBy


def asked(sets: Sequence[str]) -> tuple[int | None, tuple[str, ...]]:
    """The rows per device that `--set` names, None where it names none; and the other `--set`.

    Raises:
        UsageError: they are no whole number.
    """
    rows = None
    for each in sets:
        key, _, value = each.partition("=")
        if key == split.ROWS:
            if not (value.isascii() and value.isdigit()):
                raise UsageError(f"`--set {each}`: not a whole number", hint=f"for example `--set {split.ROWS}=1`")
            rows = int(value)
    return rows, tuple(each for each in sets if not each.startswith(f"{split.ROWS}="))


def apply(run_dir: RunDir, plan: Plan, rows: int, asked_by: SplitBy) -> Plan:
    """Have the run go on with so many rows per device: by a new plan, `run.json` and an event.

    Only the holder of the run's lock may call it.

    Raises:
        UsageError: the rows of one device do not divide by that.
    """
    known = record.read(run_dir)
    before = plan.batch.per_device
    wanted = known.split.recipe if known and known.split and known.split.now == before else before
    changed = split.with_rows(plan, rows, _reason(wanted, rows, asked_by))
    folder.update(run_dir, Planned(changed, prepared.placement(run_dir)))
    if known:
        kept = None if rows == wanted else Split(wanted, rows, asked_by)
        record.write(run_dir, replace(known, split=kept))
    events.append(
        run_dir.events,
        "split",
        before=before,
        per_device=rows,
        accumulation=changed.batch.accumulation,
        asked_by=asked_by,
    )
    return changed


def kept(planned: Planned, known: Record) -> Planned:
    """A new plan of the same recipe, with the split that the run went on with; as it is when the recipe's has changed."""
    noted, batch = known.split, planned.plan.batch
    if noted is None or noted.recipe != batch.per_device or batch.per_device * batch.accumulation % noted.now:
        return planned
    reason = _reason(noted.recipe, noted.now, noted.asked_by)
    return replace(planned, plan=split.with_rows(planned.plan, noted.now, reason))


def steady(planned: Planned, run_dir: RunDir) -> Planned:
    """A new plan with as many rows per device as the run had, where the recipe leaves them open: what is free today decides nothing about what is trained already."""
    if not checkpoints.folders(run_dir):
        return planned
    try:
        before = codec.loads(run_dir.plan.read_text(encoding="utf-8"))
    except (OSError, EnvironmentFault):
        return planned  # it is made whole again
    rows, batch = before.batch.per_device, planned.plan.batch
    left_open = any(each.key == split.ROWS for each in planned.plan.decisions)
    same = (batch.global_size, batch.world_size) == (before.batch.global_size, before.batch.world_size)
    if not left_open or not same or rows == batch.per_device:
        return planned
    return replace(planned, plan=split.with_rows(planned.plan, rows, "as this run began"))


def may_shrink(plan: Plan, known: Record) -> int | None:
    """Rows per device that `on_oom: halve` goes on with; None when it is not wanted, was done, or nothing is smaller."""
    done = known.split is not None and known.split.asked_by == "policy" and known.split.now == plan.batch.per_device
    return split.smaller(plan.batch) if plan.restart.on_oom == "halve" and not done else None


def told(plan: Plan, known: Record) -> str | None:
    """A line for people where a run goes on with another split than its recipe's."""
    if known.split is None or known.split.now != plan.batch.per_device:
        return None
    reason = _reason(known.split.recipe, known.split.now, known.split.asked_by)
    return f"{split.at_a_time(plan.batch)}, not the recipe's {known.split.recipe} at a time ({reason})"


def _reason(recipe: int, rows: int, asked_by: SplitBy) -> str:
    by = {"person": "`--set` on this run", "policy": "`training.on_oom: halve`", "probe": "`launch.probe`"}[asked_by]
    if rows == recipe:
        return f"{by}: as the recipe has it"
    return f"{by}: with {recipe} this run ran out of memory" if rows < recipe else f"{by}, instead of {recipe}"
